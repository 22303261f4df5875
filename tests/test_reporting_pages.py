"""The pages of a report: complete, escaped, offline, and the same for the same runs."""

import dataclasses
import html
import io
import json
import re
import shutil

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from mcnlab.errors import DataError
from mcnlab.reporting.addresses import picture_address, sound_address
from mcnlab.reporting.answer import answer
from mcnlab.reporting.export import PLOTLY, export_html
from mcnlab.reporting.heatmaps import additions_figure, factors_figure, retention_figure
from mcnlab.reporting.map_figures import cluster_figure
from mcnlab.reporting.maps import study_maps
from mcnlab.reporting.overview import best_run, main_direction
from mcnlab.reporting.pages import index_page, quoted, study_facts, write_report
from mcnlab.reporting.projection import aligned_maps
from mcnlab.reporting.published import published_tables
from mcnlab.reporting.recipe import MORE_TERMS, STAGED
from mcnlab.reporting.render import content_hash, figure_view, packed_plotly, plot_json, plotly_hash, table_view
from mcnlab.reporting.show import bundle
from mcnlab.reporting.sprite import sprite
from mcnlab.reporting.style import Figure, safe
from mcnlab.reporting.summary import Column, summarize
from tests.fake_study import DEFAULT, HOSTILE_CAPTION, FakeExperiment, write_fake_study

FEW = (DEFAULT[0], DEFAULT[3], DEFAULT[5])
CARTESIAN = {"scatter", "bar", "heatmap", "box", "violin", "image", "histogram"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    evil = FakeExperiment('=<img src="http://x/" onerror="alert(1)">', ("vt",))
    write_fake_study(folder, experiments=(*FEW, evil), seeds=(0, 1), clips=40, failed=("MCN",))
    for run in sorted(folder.iterdir()):
        cell = new_code_cell("1 / 0" if run.name.startswith("mcn") else "'fine'")
        if run.name.startswith("mcn"):
            cell.outputs = [new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])]
        nbformat.write(new_notebook(cells=[cell]), run / "notebook.ipynb")
    return folder


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("report"), title="Report", question="Why?")


@pytest.fixture(scope="module")
def page(report):
    return report.read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_page_byte_for_byte(study, page, tmp_path):
    seen = []
    again = write_report(
        study, tmp_path / "again", title="Report", question="Why?", progress=lambda *counts: seen.append(counts)
    )
    assert [done for done, _ in seen] == list(range(len(list((tmp_path / "again").rglob("*.html"))) + 1))
    assert {total for _, total in seen} == {seen[-1][0]}
    assert again.read_text(encoding="utf-8") == page


def test_every_page_forbids_the_network_and_names_its_scripts_by_hash(report):
    for path in [report, *report.parent.glob("*/*.html")]:
        text = path.read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
        assert policy is not None
        assert html.unescape(policy[1]).startswith("default-src 'none'; script-src")
        scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
        for script in scripts:
            assert content_hash(script.encode()) in html.unescape(policy[1])


def test_nothing_on_a_page_asks_for_an_address(report):
    for path in [report, *report.parent.glob("*/*.html")]:
        text = path.read_text(encoding="utf-8").replace(packed_plotly(), "")
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


def test_captions_and_names_from_others_stay_text(page):
    assert not re.search('<img src="(?!data:image/png;base64,)', page)
    assert "<script>alert" not in page
    assert HOSTILE_CAPTION not in page


def test_a_page_carries_plotly_once(page):
    assert page.count(packed_plotly()) == 1
    assert plotly_hash() in html.unescape(page)


def test_every_figure_has_words_for_those_who_do_not_see_it(page):
    assert page.count('class="plot" role="img" aria-label=') == page.count('class="plot"') > 4
    assert 'aria-label=""' not in page


def test_the_numbers_can_be_read_without_javascript(study, page):
    value = summarize(study).results.query("experiment == 'V+A' and metric == 'recall_at_1'")
    mean = value[value.subject == "video->audio"]["value"].mean()
    assert f"{mean:.3f}" in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_a_failed_run_is_shown_with_its_error_and_its_page(report, page):
    assert "2 of 8 runs did not finish" in page
    assert "nan at step 14" in html.unescape(page)
    failed = (report.parent / "runs" / "mcn-s0.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError: division by zero" in failed
    assert 'href="../index.html"' in failed


def test_every_link_of_the_index_leads_to_a_file(report, page):
    links = [link for link in re.findall(r'href="([^"#]+)"', page) if not link.startswith(("http", "data:"))]
    assert len(links) >= 9
    assert all((report.parent / link).exists() for link in links)


def test_the_foot_says_where_the_numbers_come_from(page):
    foot = page[page.index('id="provenance"') :]
    for fact in ("learning_code", "fingerprint", "seeds 0, 1", "torch 2.13.0", "training", "2026-11-20"):
        assert fact in foot


def test_results_have_the_columns_of_the_contract_and_no_formulas(report):
    lines = (report.parent / "results.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "experiment,seed,task,subject,metric,value,low,high"
    assert not any(line.startswith(("=", '"=', "+", "@")) for line in lines)


def test_a_quote_stands_before_what_a_spreadsheet_would_compute(study):
    names = set(quoted(summarize(study).results)["experiment"])
    assert any(name.startswith("'=<img") for name in names)
    assert "V+A" in names


def test_only_trace_types_of_the_vendored_bundle_are_drawn(study):
    summary = summarize(study)
    figures = [retention_figure(summary), factors_figure(summary)]
    assert {trace.type for figure in figures for trace in figure.plot.data} <= CARTESIAN


def test_the_retention_map_shows_the_results(study):
    summary = summarize(study)
    figure = retention_figure(summary)
    heat = next(trace for trace in figure.plot.data if trace.type == "heatmap")
    rows = summary.results.query("experiment == 'V+A' and subject == 'video:va' and metric == 'score'")
    assert heat.z[0][1] == pytest.approx(rows["value"].mean())


def test_additions_are_differences_from_the_reference(tmp_path):
    summary = summarize(write_fake_study(tmp_path, experiments=(DEFAULT[3], DEFAULT[5]), seeds=(0,)))
    figure = additions_figure(summary)
    assert figure is not None
    means = summary.results.query("subject == 'video:v' and metric == 'score'").set_index("experiment")["value"]
    assert figure.numbers.loc["MCN", ("video", "v")] == pytest.approx(means["MCN"] - means["V+A+T"], abs=1e-3)


def test_without_more_terms_there_is_nothing_to_add(tmp_path):
    assert additions_figure(summarize(write_fake_study(tmp_path, experiments=DEFAULT[:2], seeds=(0,)))) is None


def test_json_cannot_end_the_script_it_stands_in():
    text = plot_json(go.Figure(go.Scatter(x=[1], y=[1], name="</script><b>&")))
    assert not set("<>&") & set(text)
    assert json.loads(text)["data"][0]["name"] == "</script><b>&"


def test_arrays_that_traces_share_are_written_once():
    captions = [["one"], ["two"]]
    plot = go.Figure([go.Scatter(y=[1, 2], customdata=captions), go.Scatter(y=[2, 1], customdata=captions)])
    data = json.loads(plot_json(plot))["data"]
    assert data[0]["customdata"] == captions
    assert data[1]["customdata"] == {"as": 0}


@pytest.mark.parametrize(("raw", "drawn"), [("a<b>", "a&lt;b&gt;"), ("$x$", "&#36;x&#36;"), ("a\x00\nb", "a  b")])
def test_plotly_gets_no_markup_tex_or_control_characters(raw, drawn):
    assert safe(raw) == drawn


def test_a_figure_in_a_notebook_comes_out_on_its_page(tmp_path):
    figure = Figure("x", "What <to> see", "In words", "As text", go.Figure(go.Bar(y=[1, 2])))
    cell = new_code_cell("show(figure)", id="show")
    data = json.loads(json.dumps(bundle(figure)))
    cell.outputs = [new_output("display_data", data={**data, "application/vnd.jupyter.widget-view+json": {}})]
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    page = export_html(tmp_path / "n.ipynb", tmp_path / "n.html", title="T").read_text(encoding="utf-8")
    assert page.count('class="plot"') == 1
    assert "<h3>What &lt;to&gt; see</h3>" in page
    assert "widget-view" not in page
    assert PLOTLY not in page


def test_tables_know_words_from_numbers():
    view = table_view(pd.DataFrame({"what": ["a"], "how much": [1.25]}, index=pd.Index(["x"], name="name")))
    assert view.head == ("name", "what", "how much")
    assert view.rows == (("x", "a", "1.25"),)
    assert view.words == (True, True, False)


def test_maps_are_kept_by_content(tmp_path):
    random = np.random.default_rng(0)
    embeddings = {name: random.normal(size=(20, 6)) for name in "ab"}
    first = aligned_maps(embeddings, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    again = aligned_maps(embeddings, cache=tmp_path)
    assert all(np.array_equal(first.positions[name], again.positions[name]) for name in "ab")
    assert first.trust == again.trust
    aligned_maps({**embeddings, "b": embeddings["b"] + 1e-3}, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_clip_without_the_modality_is_not_on_the_map():
    random = np.random.default_rng(0)
    embeddings = {name: random.normal(size=(20, 6)) for name in "ab"}
    embeddings["b"][3] = np.nan
    maps = aligned_maps(embeddings)
    assert np.isnan(maps.positions["b"][3]).all()
    assert np.isfinite(maps.positions["a"]).all()
    assert 0.5 <= maps.trust["b"] <= 1


def test_thumbnails_lie_on_one_sheet(study):
    maps = study_maps(summarize(study), cache=study / ".maps")
    assert maps is not None
    sheet = sprite(maps.clips)
    assert sheet is not None
    assert sheet["uri"].startswith("data:image/webp;base64,")
    assert sheet["columns"] ** 2 >= len(maps.clips)


def picture(kind, size):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (picture("EPS", (8, 8)), "no PNG, JPEG or WebP"),  # what opens it runs a program
        (picture("GIF", (8, 8)), "no PNG, JPEG or WebP"),
        (picture("PNG", (5000, 5000)), "5000 × 5000 pixels"),
        (picture("PNG", (8, 8))[:40], "no PNG, JPEG or WebP"),
        (b"", "no PNG, JPEG or WebP"),
    ],
    ids=["eps", "gif", "many pixels", "cut off", "empty"],
)
def test_a_thumbnail_from_others_that_is_no_small_picture_is_refused(content, said):
    with pytest.raises(DataError, match=f"thumbnail: .*{said}"):
        sprite(pd.DataFrame({"thumbnail": [content]}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_shown_as_what_they_are(kind):
    assert picture_address(picture(kind, (8, 8))).startswith(f"data:image/{kind.lower()};base64,")
    assert sprite(pd.DataFrame({"thumbnail": [picture(kind, (8, 8))]}))["columns"] == 1


def test_what_is_neither_picture_nor_sound_has_no_address():
    assert [picture_address(one) for one in (None, float("nan"), b"<svg onload=alert(1)>", "text")] == [""] * 4
    assert [sound_address(one) for one in (None, float("nan"), b"<html>", b"RIFF" + bytes(8_000_000))] == [""] * 4


def test_a_view_of_a_figure_keeps_its_height():
    assert figure_view(Figure("x", "t", "c", "a", go.Figure(layout_height=321))).height == 321


def test_overhead_is_what_was_neither_trained_now_nor_evaluated(study):
    summary = summarize(study, title="Report", question="Why?")
    (row, *_) = summary.finished()
    # sixty of its seventy seconds of training were done by another run with the same first stage
    row = dataclasses.replace(row, train_s=70.0, trained_now_s=10.0, evaluate_s=2.0)
    alone = dataclasses.replace(summary, runs=(row,), record={"run_s": {row.folder.name: 20.0}})
    assert dict(study_facts(alone))["notebook and kernel overhead"] == "40% of 20 s in run notebooks"


# beside published numbers


def elsewhere(study, dataset):
    """The study's own retrieval again, as if it had been measured on another data set too."""
    summary = summarize(study, title="Report", question="Why?")
    own = summary.results[summary.results.task == "retrieval"].assign(task=f"retrieval@{dataset}")
    return dataclasses.replace(summary, results=pd.concat([summary.results, own], ignore_index=True))


def test_published_numbers_stand_beside_measured_ones_and_are_marked(study):
    summary = elsewhere(study, "youcook2")
    (one,) = published_tables(summary)
    title, table = one.title, one.table
    assert title == "Zero-shot on YouCook2, beside published numbers"
    mcn = table.loc["MCN (R152+RX101)"]
    assert (mcn["kind"], mcn["R@1 (%)"], mcn["R@5 (%)"], mcn["R@10 (%)"]) == ("published", 18.1, 35.5, 45.2)
    measured = table[(table.kind == "measured") & (table.asked == "T→V")]
    rows = summary.results[(summary.results.task == "retrieval") & (summary.results.subject == "text->video")]
    expected = rows[rows.metric == "recall_at_5"].groupby("experiment")["value"].mean()
    assert set(measured.index) == set(expected.index) != set()
    for name, value in expected.items():
        assert measured.loc[name, "R@5 (%)"] == pytest.approx(100 * value, abs=0.051)
    assert set(measured["source"]) == {"this study, 2 seeds"}
    assert set(measured["clips"]) == {40}
    assert mcn["clips"] == 3350
    text = index_page(summary)
    assert "Published numbers" in text
    assert "VideoCLIP" in text


def evaluated_on(study, folder, **stores):
    """A copy of a study whose runs say what they were measured on."""
    shutil.copytree(study, folder)
    for path in folder.glob("*/provenance.json"):
        known = json.loads(path.read_text())
        path.write_text(json.dumps({**known, "evaluated": stores}))
    return folder


def evaluated(store, clips, fingerprint):
    return {"store": store, "split": "val", "clips": clips, "fingerprint": fingerprint * 64, "path": f"/x/{store}"}


def test_every_store_that_was_evaluated_is_named_with_its_clips(study, tmp_path):
    stores = {"own": evaluated("<own>", 40, "a"), "youcook2": evaluated("my YouCook2", 41, "b")}
    summary = elsewhere(evaluated_on(study, tmp_path / "study", **stores), "youcook2")
    (one,) = published_tables(summary)
    assert set(one.table[one.table.kind == "measured"]["store"]) == {"my YouCook2"}
    assert set(one.table[one.table.kind == "published"]["store"]) == {""}
    assert one.measured_on == "Measured on my YouCook2, 41 clips of the split val (fingerprint bbbbbbbbbbbb)."
    text = index_page(summary)
    assert one.measured_on in text
    assert "Measured on &lt;own&gt;, 40 clips of the split val (fingerprint aaaaaaaaaaaa)." in text
    facts = dict(study_facts(summary))
    assert facts["evaluated on its own store"] == f"<own>, 40 clips of the split val; fingerprint {'a' * 64}; /x/<own>"
    assert facts["evaluated on youcook2"].endswith(f"fingerprint {'b' * 64}; /x/my YouCook2")
    lines = re.findall(r'<tr class="(published|measured)">.*?<span>(\w+)</span>', text)
    assert {kind for kind, _ in lines} == {"published", "measured"}
    assert all(kind == said for kind, said in lines)


def test_two_stores_under_one_name_are_both_told(study, tmp_path):
    folder = evaluated_on(study, tmp_path / "study", youcook2=evaluated("y", 40, "b"))
    path = sorted(folder.glob("*/provenance.json"))[0]
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "evaluated": {"youcook2": evaluated("y", 39, "c")}}))
    (one,) = published_tables(elsewhere(folder, "youcook2"))
    assert "Runs were measured on different data under this name." in one.measured_on
    assert {"bbbbbbbbbbbb", "cccccccccccc"} <= set(re.findall(r"\w{12}", one.measured_on))


@pytest.mark.parametrize("dataset", ["mine", "youcook"])
def test_a_data_set_without_published_numbers_has_no_such_table(study, page, dataset):
    assert published_tables(elsewhere(study, dataset)) == ()
    assert "Published numbers" not in page


def test_a_number_that_nobody_has_checked_says_so(study):
    table = published_tables(elsewhere(study, "msrvtt"))[0].table
    assert "not checked against the paper" in table.loc["MCN (R152+RX101)", "source"]
    assert np.isnan(table.loc["MMV (TSM-50×2)", "R@1 (%)"])


@pytest.mark.parametrize(
    ("dataset", "head", "metric", "model", "value"),
    [
        ("crosstask", "step recall (%)", "step_recall", "TACo", 42.5),
        ("mining_youtube", "IoD (%)", "iod", "hierarchical", 26.83),
    ],
)
def test_steps_that_were_found_stand_beside_published_numbers(study, dataset, head, metric, model, value):
    summary = summarize(study, title="Report", question="Why?")
    rows = summary.results[(summary.results.task == "retrieval") & (summary.results.metric == "recall_at_5")]
    named = [rows.assign(task=f"actions@{dataset}", metric=name) for name in {metric, "iou", "step_recall"}]
    other = dataclasses.replace(summary, results=pd.concat([summary.results, *named], ignore_index=True))
    (one,) = published_tables(other)
    title, table = one.title, one.table
    assert title.startswith("Steps found in")
    assert table.loc[model, head] == value
    measured = table[(table.kind == "measured") & (table.asked == "T→V")]
    expected = rows[rows.subject == "text->video"].groupby("experiment")["value"].mean()
    assert measured[head].to_dict() == {name: pytest.approx(100 * x, abs=0.051) for name, x in expected.items()}


def test_the_answer_says_how_many_clips_zero_shot_numbers_are_of(study):
    (part,) = [part for part in answer(elsewhere(study, "youcook2")) if part.heading.startswith("Zero-shot")]
    assert part.points[0].startswith("youcook2, T→V recall at 1 among 40 clips (chance 0.0250): ")


def test_an_experiment_is_not_measured_against_itself_nor_called_what_it_is_not(study):
    summary = summarize(study, title="Report", question="Why?")
    mcn = next(name for name in summary.experiments if summary.recipes[name].family in (MORE_TERMS, STAGED))
    alone = dataclasses.replace(summary, experiments=(mcn,), reference=mcn)
    assert not any("contrast alone" in part.lead for part in answer(alone))
    assert not any("terms" in part.heading for part in answer(alone))


# stores that lack something


def test_clips_without_label_or_modality_are_drawn_without_a_color(study):
    maps = study_maps(summarize(study, title="Report", question="Why?"), cache=None)
    embeddings = {key: values.copy() for key, values in maps.embeddings.items()}
    for values in embeddings.values():
        values[0] = np.nan
    bare = dataclasses.replace(maps, embeddings=embeddings, clips=maps.clips.assign(label=None))
    figure = cluster_figure(bare)
    colors = np.array(figure.plot.data[0].marker.color, dtype=float)
    assert np.isnan(colors[0])
    assert np.isfinite(colors[1:]).all()
    assert "NaN" not in plot_json(figure.plot)


def test_the_best_run_in_a_direction_has_trained_both_of_its_sides(study):
    summary = summarize(study, title="Report", question="Why?")
    results = summary.results.copy()
    untrained = (results.experiment == "V+A") & (results.subject == "text->video")
    results.loc[untrained & (results.metric == "recall_at_1"), "value"] = 1.0
    lucky = dataclasses.replace(summary, results=results)
    assert lucky.run_values(Column("", "retrieval", ("text->video",), "recall_at_1"))["V+A"] == {0: 1.0, 1: 1.0}
    assert best_run(lucky, "text->video").experiment != "V+A"
    only = dataclasses.replace(lucky, experiments=("V+A",))
    assert main_direction(only) == "video->audio"


def test_a_study_without_a_table_has_no_empty_heading(study):
    summary = summarize(study)
    rows = summary.results
    bare = dataclasses.replace(summary, results=rows[~rows.task.isin(["retrieval", "clusters", "retention"])])
    assert len(bare.results)
    assert 'id="comparison"' in index_page(summary)
    assert 'id="comparison"' not in index_page(bare)


def test_half_a_page_of_a_killed_report_is_removed(tmp_path):
    study = write_fake_study(tmp_path / "runs", experiments=DEFAULT[:1], seeds=(0,), clips=20, steps=6)
    half = tmp_path / "report" / ".index.html.partial-1"
    half.parent.mkdir()
    half.write_text("<html>")
    write_report(study, tmp_path / "report")
    assert not half.exists()
    assert (tmp_path / "report" / "index.html").is_file()
