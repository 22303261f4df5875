"""The explorer itself: puts the maps, the controls, the table, the clip and the questions together."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from mcnlab.errors import DataError, McnlabError
from mcnlab.reporting.addresses import picture_address, sound_address
from mcnlab.reporting.explorer.ask import RINGED, Asks, QueryBox
from mcnlab.reporting.explorer.colors import CLUSTER, PointColors, point_colors
from mcnlab.reporting.explorer.course import Checkpoints, CourseSlider
from mcnlab.reporting.explorer.data import ExplorerData, Panel, open_runs
from mcnlab.reporting.explorer.jobs import Jobs, Task
from mcnlab.reporting.explorer.media import ClipMedia, Media
from mcnlab.reporting.explorer.near import near_clip, whole
from mcnlab.reporting.explorer.panel import PanelControls
from mcnlab.reporting.explorer.together import LayOut, lay_out_pair
from mcnlab.reporting.explorer.views import CardView, ClipTable, MapsView
from mcnlab.reporting.explorer.words import Clips, how_far_to_trust
from mcnlab.reporting.explorer_maps import maps_apart
from mcnlab.reporting.explorer_neighbors import changed_neighbors, neighbors_to_compare
from mcnlab.reporting.projection import Maps
from mcnlab.runs import RunFolder

MOST_ROWS = 100
"""Rows of a table that are sent to the browser."""
NEIGHBORS = 5
"""Clips of each other modality in the card."""
NO_MEDIA = "Frames and sound need the store, and this explorer was opened without."
TABS = ("Clips", "Ask", "Training", "Changed neighbors")


class Explorer(ipywidgets.VBox):
    """Two linked maps of the same clips, and all that one may ask of a clip.

    Args:
        runs: a folder of run folders, one run folder, or several.
        ask: makes the model of a run, for sentences; None: sentences cannot be asked.
        media: frames, sound and caption of a clip; None: the thumbnail is shown.
        checkpoints: embeds the clips by each checkpoint of a run; None: the slider is off.
        lay_out: lays out maps that are to be compared.
        cache: folder where positions are kept; None keeps nothing.
        patient: False does all work at once, in the calling thread, for tests and scripts.

    Raises:
        DataError: there is no run with embeddings.

    Example:
        >>> explorer = Explorer("runs/modality_combinations")  # doctest: +SKIP
        >>> explorer.left.color.value = "label"  # doctest: +SKIP
    """

    def __init__(
        self,
        runs: str | Path | Sequence[str | Path] | ExplorerData,
        *,
        ask: Callable[[RunFolder], Asks] | None = None,
        media: Media | None = None,
        checkpoints: Checkpoints | None = None,
        lay_out: LayOut = maps_apart,
        cache: Path | None = None,
        patient: bool = True,
    ) -> None:
        self.data = runs if isinstance(runs, ExplorerData) else open_runs(runs)
        self.clips = Clips(self.data.clips)
        self._media, self._cache, self._lay_out = media, cache, lay_out
        self._panels: dict[str, Panel] = {}
        self._lasso: np.ndarray | None = None
        self._coloring = False
        self._compared: tuple[str, ...] = ()
        self._make_maps()
        self._make_table(patient)
        self._make_card(patient)
        self.query = QueryBox(
            self.data,
            self.clips,
            run=lambda: self.left.run.value,
            ask=ask,
            opened=self._open,
            answered=self._mark,
            patient=patient,
        )
        self.course = CourseSlider(
            self.data, panel=self._left_panel, checkpoints=checkpoints,
            lay_out=lay_out, moved=self._move_left, back=self.lay_out,
            cache=cache, patient=patient,
        )  # fmt: skip
        self.jobs = Jobs(patient=patient)
        super().__init__(self._arranged())
        self._fill_table()
        self.lay_out()

    # What one can do, by a click or from Python.

    def lay_out(self) -> None:
        """Lay out what both sides ask for, in a thread of its own."""
        wanted = {side: (one.run.value, one.embedding.value) for side, one in self._sides().items()}
        self.course.forget()

        def work(task: Task) -> tuple[dict[str, Panel], Maps, dict[str, Any]]:
            panels = {side: self.data.panel(*of) for side, of in wanted.items()}
            maps = lay_out_pair(panels["left"], panels["right"], self._lay_out, self._cache, task)
            task.progress(None, "coloring")
            chosen = {side: one.color.value for side, one in self._sides().items()}
            return panels, maps, {side: (of, point_colors(self.data, panels[side], of)) for side, of in chosen.items()}

        self._coloring = False
        self.jobs.start("laying out both maps together", work, lambda done: self._place(*done))

    def select(self, rows: Sequence[int] | np.ndarray | None) -> None:
        """Show only some clips in the table, and dim the others on the maps.

        Args:
            rows: of the clips; None for all.
        """
        self._lasso = None if rows is None else np.unique(np.asarray(rows, dtype=int))
        self._fill_table()

    def look_at(self, clip: int, side: str = "left", point: int | None = None) -> None:
        """Look at a clip, hear it, and see what is near.

        Args:
            clip: its row.
            side: on whose map; says in which run and embedding neighbors are looked for.
            point: number of the point; says which modality it is of where a clip stands on the map more than once.

        Raises:
            DataError: there is no such clip.
        """
        if not 0 <= clip < len(self.data.clips):
            raise DataError(f"clip: there are {len(self.data.clips)} clips, got row {clip}")
        controls = self._sides()[side]
        run, shown = self.data.runs[controls.run.value], controls.embedding.value
        panel = self._panels.get(side)
        if panel is not None and len(panel.modalities) > 1:
            shown = panel.modalities[(point if point is not None else clip) // len(panel)]
        self.maps.opened = clip
        self.query.opened_clip(clip)
        found = near_clip(run, self.data.embeddings(controls.run.value), clip, shown, count=NEIGHBORS)
        lists = [self.clips.near(one, clip) for one in found]
        self._show_card(clip, lists, f"neighbors of its {shown} in {controls.run.value}")
        if point is None:
            self.maps.send({"kind": "jump", "clip": int(clip)})
        self._load_media(run, clip)

    # Parts.

    def _make_maps(self) -> None:
        """Maps and their controls."""
        first, other = self.data.first_two()
        others = self.data.choices(other)
        shown = next((name for name in self.data.choices(first) if name in others), self.data.choices(first)[0])
        self.left = self._controls("left", first, shown)
        self.right = self._controls("right", other, shown)
        self.maps = MapsView(self._hear, count=len(self.data.clips))

    def _controls(self, side: str, run: str, shown: str) -> PanelControls:
        """The controls of one side."""
        return PanelControls(
            self.data, side, run, shown, moved=self._other_map, colored=lambda: self._color(side), failed=self._fail
        )

    def _make_table(self, patient: bool) -> None:
        """The table of clips with its search box, and that of changed neighbors."""
        self.search = ipywidgets.Text(
            description="search", placeholder="words of captions, labels, ids", layout={"width": "auto"},
            style={"description_width": "50px"},
        )  # fmt: skip
        self.search.observe(lambda _: self._fill_table(), "value")
        self.table = ClipTable(self._open)
        self.changed = ClipTable(self._open)
        self.changed_jobs = Jobs(patient=patient)

    def _make_card(self, patient: bool) -> None:
        """The opened clip."""
        self.card = CardView(self._open)
        self.media_jobs = Jobs(patient=patient)

    def _arranged(self) -> list[ipywidgets.Widget]:
        """All parts in their places."""
        pages = [
            ipywidgets.VBox([self.search, self.table]),
            self.query,
            self.course,
            ipywidgets.VBox([self.changed_jobs, self.changed]),
        ]
        self.tabs = ipywidgets.Tab(pages, titles=TABS, layout={"flex": "1 1 430px", "min_width": "0"})
        self.tabs.observe(lambda _: self._compare_neighbors(), "selected_index")
        aside = ipywidgets.VBox([self.media_jobs, self.card], layout={"flex": "1 1 340px", "min_width": "0"})
        sides = ipywidgets.HBox([self.left, self.right], layout={"grid_gap": "10px"})
        below = ipywidgets.HBox([self.tabs, aside], layout={"flex_flow": "row wrap", "grid_gap": "12px"})
        return [sides, self.jobs, self.maps, below]

    def _sides(self) -> dict[str, PanelControls]:
        """Controls by side."""
        return {"left": self.left, "right": self.right}

    # What the browser tells.

    def _hear(self, told: dict[str, Any], buffers: list[Any]) -> None:
        """A click, a lasso, a pointer over a clip."""
        kind, clip = told.get("kind"), int(told.get("clip", -1))
        if kind == "clear":
            self.search.value, self.maps.marks = "", []
            self.select(None)
        elif kind == "lasso":
            rows = np.frombuffer(buffers[0], dtype=np.int32) if buffers else np.array([], int)
            self.select(rows if len(rows) else None)
        elif kind == "open" and 0 <= clip < len(self.data.clips):
            self._open(clip, str(told.get("side", "left")), int(told.get("point", clip)))
        elif kind == "hover" and 0 <= clip < len(self.data.clips):
            self.maps.send({"kind": "hover", "clip": clip, **self.clips.tip(clip)})

    def _open(self, clip: int, side: str = "left", point: int | None = None) -> None:
        """Look at a clip that the page names, and say why where that fails."""
        try:
            self.look_at(clip, side, point)
        except McnlabError as error:
            self.media_jobs.say(" ".join(str(error).split()))

    def _fail(self, words: str) -> None:
        """Say what is wrong with what was chosen."""
        self.jobs.cancel()
        self.jobs.say(" ".join(words.split()))

    # What follows.

    def _other_map(self) -> None:
        """Another run or embedding was chosen."""
        self.query.refresh()
        self.lay_out()

    def _place(self, panels: dict[str, Panel], maps: Maps, colors: dict[str, Any]) -> None:
        """Show both maps, and how far to trust them."""
        self._panels = panels
        for side, panel in panels.items():
            choice, known = colors[side]
            chosen = self._sides()[side].color.value  # perhaps another than when the colors were computed
            shown = known if choice == chosen else point_colors(self.data, panel, chosen)
            self.maps.place(side, maps.positions[side], panel.clips, shown)
            self._sides()[side].trust = how_far_to_trust(maps, side)
        self._compared = ()
        self._compare_neighbors()

    def _color(self, side: str) -> None:
        """Color one map; clusters are computed first, which may take a while."""
        panel, choice = self._panels.get(side), self._sides()[side].color.value
        if panel is None:
            return  # it is colored as soon as it is laid out
        if choice != CLUSTER:
            self.maps.color(side, point_colors(self.data, panel, choice))
        elif self._coloring or not self.jobs.busy:
            self._coloring = True
            self.jobs.start(
                "looking for clusters",
                lambda task: point_colors(self.data, panel, choice),
                lambda colors: self._show_clusters(side, colors),
            )

    def _show_clusters(self, side: str, colors: PointColors) -> None:
        """Color by clusters, if that is still wanted."""
        if self._sides()[side].color.value == CLUSTER:
            self.maps.color(side, colors)

    def _fill_table(self) -> None:
        """The clips inside of the lasso that hold the words of the search."""
        rows = self.clips.found(self.search.value)
        if self._lasso is not None:
            rows = np.intersect1d(rows, self._lasso)
        filtered = self._lasso is not None or bool(self.search.value.strip())
        self._leave_bright(rows, filtered=filtered)
        shown = rows[:MOST_ROWS]
        first = "" if len(shown) == len(rows) else f", the first {len(shown)} are shown"
        words = f"{len(rows)} of {len(self.data.clips)} clips{first}"
        self.table.fill(words, ["caption", "label", "id"], [self.clips.line(row) for row in shown.tolist()])

    def _show_card(self, clip: int, lists: list[dict[str, Any]], note: str) -> None:
        """Show a clip with what is known at once."""
        picture = self.clips.picture(clip)
        self.card.card = {
            "id": self.clips.text(clip, "id"),
            "caption": self.clips.text(clip, "caption"),
            "frames": [picture] if picture else [],
            "sound": "",
            "facts": self.clips.facts(clip),
            "notes": [note, *([] if self._media else [NO_MEDIA])],
            "lists": lists,
        }

    def _load_media(self, run: RunFolder, clip: int) -> None:
        """Fetch frames and sound of the opened clip, in a thread of its own."""
        media, name = self._media, self.clips.text(clip, "id")
        if media is None:
            return

        def done(found: ClipMedia) -> None:
            shown = self.card.card
            if shown.get("id") != name:
                return
            pictures = [one for one in map(picture_address, found.frames) if one] or shown["frames"]
            notes = [*shown["notes"], *([found.note] if found.note else [])]
            self.card.card = {**shown, "frames": pictures, "sound": sound_address(found.wav), "notes": notes}

        self.media_jobs.start("fetching frames and sound", lambda task: media(run, name), done)

    def _mark(self, rows: Sequence[int]) -> None:
        """Ring the first clips of an answer on both maps, and dim those that are not in it."""
        self.maps.marks = [int(row) for row in rows[:RINGED]]
        if len(rows):
            self._leave_bright(np.sort(np.asarray(rows)), filtered=True)
        else:
            self._fill_table()

    def _leave_bright(self, rows: np.ndarray, *, filtered: bool) -> None:
        """Dim all other clips on the maps."""
        with self.maps.hold_sync():
            self.maps.chosen, self.maps.filtered = rows.astype(np.int32).tobytes(), filtered

    def _compare_neighbors(self) -> None:
        """Fill the table of changed neighbors when somebody looks at it."""
        shown = tuple(f"{one.embedding} of {one.run}" for one in self._panels.values())
        if self.tabs.selected_index != TABS.index("Changed neighbors") or not shown or shown == self._compared:
            return
        self._compared = shown
        count = len(self.data.clips)
        left, right = (whole(one.embedding, one.vectors, count) for one in self._panels.values())
        words = f"neighbors that {shown[0]} and {shown[1]} share; those that changed most first"

        def done(table: pd.DataFrame) -> None:
            first = zip(table["row"][:MOST_ROWS], table["kept"][:MOST_ROWS], strict=True)
            rows = [self.clips.line(int(clip), [round(float(kept), 2)]) for clip, kept in first]
            self.changed.fill(words, ["share kept", "caption", "label", "id"], rows)

        def work(task: Task) -> pd.DataFrame:
            near = neighbors_to_compare(left, right)
            return changed_neighbors(left, right, count=near, progress=task.count, cancelled=task.cancelled)

        self.changed_jobs.start("comparing neighbors", work, done)

    def _left_panel(self) -> Panel:
        """What the left map shows."""
        return self.data.panel(self.left.run.value, self.left.embedding.value)

    def _move_left(self, panel: Panel, places: np.ndarray, words: str) -> None:
        """Move the left map to where its clips were at a checkpoint."""
        self.maps.place("left", places, panel.clips, point_colors(self.data, panel, self.left.color.value))
        self.left.trust = words
