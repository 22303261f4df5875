"""The query box: a sentence, or what one hears or sees in the opened clip, and the clips that answer it best."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import ipywidgets
import numpy as np

from mcnlab.errors import DataError
from mcnlab.reporting.explorer.data import ExplorerData
from mcnlab.reporting.explorer.jobs import Jobs, Task
from mcnlab.reporting.explorer.near import Near, found_by_clip, found_by_vectors, kinds_of
from mcnlab.reporting.explorer.panel import offer
from mcnlab.reporting.explorer.views import ClipTable
from mcnlab.reporting.explorer.words import Clips
from mcnlab.reporting.maps import JOINT
from mcnlab.runs import RunFolder

SENTENCE = "the sentence above"
SHOWN = 20
RINGED = 5
"""Answers that are ringed on the maps; the others keep their color, and all further clips are dimmed."""
NO_TEXT = "Sentences cannot be asked here: this explorer was opened without a model. Ask with a clip instead."


@runtime_checkable
class Asks(Protocol):
    """A run's model, as far as the explorer needs it."""

    def text(self, sentence: str) -> Mapping[str, np.ndarray]:
        """Embeddings of a sentence, by name as in the run: `text`, `text@vt`, …"""


class QueryBox(ipywidgets.VBox):
    """Asks the run of the left map.

    Args:
        data: the runs.
        clips: what is said of them.
        run: name of the run that is asked.
        ask: makes the model of a run; None: only clips can ask.
        opened: called with the clip that somebody wants to see.
        answered: called with the rows of the answer.
        patient: False for tests.
    """

    def __init__(
        self,
        data: ExplorerData,
        clips: Clips,
        *,
        run: Callable[[], str],
        ask: Callable[[RunFolder], Asks] | None,
        opened: Callable[[int], None],
        answered: Callable[[Sequence[int]], None],
        patient: bool = True,
    ) -> None:
        self._data, self._clips, self._run, self._ask, self._answered = data, clips, run, ask, answered
        self._asked: dict[str, Asks] = {}
        self._row: int | None = None
        style = {"description_width": "78px"}
        self.sentence = ipywidgets.Text(
            description="sentence", placeholder="a red ball", continuous_update=False, disabled=ask is None,
            layout={"width": "auto"}, style=style,
        )  # fmt: skip
        self.by = ipywidgets.Dropdown(options=[SENTENCE], description="ask with", layout={"width": "auto"}, style=style)
        self.gallery = ipywidgets.Dropdown(description="look in", layout={"width": "auto"}, style=style)
        self.button = ipywidgets.Button(description="Ask", button_style="primary", tooltip="Find the clips")
        self.jobs = Jobs(patient=patient)
        self.table = ClipTable(opened)
        self.sentence.observe(lambda change: self.answer() if change["new"] else None, "value")
        self.button.on_click(lambda _: self.answer())
        self.refresh()
        super().__init__([self.sentence, self.by, self.gallery, self.button, self.jobs, self.table])
        if ask is None:
            self.jobs.say(NO_TEXT)

    def refresh(self) -> None:
        """Offer the galleries of the run that is shown on the left now."""
        found = self._data.embeddings(self._run())
        offer(self.gallery, [*kinds_of(found), *([JOINT] if JOINT in found else [])])
        self._offer()

    def opened_clip(self, row: int) -> None:
        """Let the opened clip be asked with."""
        self._row = row
        self._offer()

    def answer(self) -> None:
        """Ask, in a thread of its own."""
        sentence, by, gallery, row = self.sentence.value.strip(), self.by.value, self.gallery.value, self._row
        if by == SENTENCE and not sentence:
            self.jobs.say(NO_TEXT if self._ask is None else "Type a sentence first.")
            return
        name = self._run()
        asked = sentence if by == SENTENCE else f"{by} of {self._clips.text(row or 0, 'id')}"

        def work(task: Task) -> tuple[Near, int | None]:
            if by == SENTENCE:
                return self._by_sentence(name, sentence, gallery), None
            return self._by_clip(name, self._kind(by), row or 0, gallery), row

        self.table.fill("", [], [])  # so that no answer to another question stays below an error
        self._answered([])
        self.jobs.start(f"asking {name}", work, lambda found: self._show(asked, *found))

    def _by_sentence(self, name: str, sentence: str, gallery: str) -> Near:
        """What a sentence finds."""
        if self._ask is None:
            raise DataError(NO_TEXT)
        if name not in self._asked:
            self._asked[name] = self._ask(self._data.runs[name])
        vectors = self._asked[name].text(sentence)
        return found_by_vectors(self._data.runs[name], self._data.embeddings(name), vectors, gallery, count=SHOWN)

    def _by_clip(self, name: str, kind: str, row: int, gallery: str) -> Near:
        """What one modality of a clip finds."""
        return found_by_clip(self._data.runs[name], self._data.embeddings(name), row, kind, gallery, count=SHOWN)

    def _show(self, asked: str, found: Near, right: int | None) -> None:
        """Show the answer as a table, and on the maps."""
        scored = zip(range(1, len(found.rows) + 1), found.rows, found.scores, strict=True)
        rows = [self._clips.line(row, [place, round(score, 3)], right=row == right) for place, row, score in scored]
        rank = "" if found.rank is None else f"; the clip itself has rank {found.rank}"
        ringed = f"; ringed: the first {RINGED}" if len(found.rows) > RINGED else ""
        self.table.fill(
            f"“{asked}” in {found.gallery}{rank}{ringed}", ["rank", "score", "caption", "label", "id"], rows
        )
        self._answered(found.rows)

    def _offer(self) -> None:
        """What one can ask with."""
        kinds = kinds_of(self._data.embeddings(self._run()))
        offer(self.by, [SENTENCE, *([_words(kind) for kind in kinds] if self._row is not None else [])])

    @staticmethod
    def _kind(by: str) -> str:
        """The modality that a choice names."""
        return by.removeprefix(_words(""))


def _words(kind: str) -> str:
    """How asking with the opened clip is offered."""
    return f"opened clip: its {kind}"
