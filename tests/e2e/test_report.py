"""The result page in a real browser: loads whole and alone, its slider moves, its videos play."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from evaluating.figures import charts
from report import arguments

from tests.metrics.pictures import moving
from vs_rafrvsr import weights
from vs_rafrvsr.models.frvsr import FRVSR

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAYS = ["low-res", "bicubic", "frvsr-bi", "rafrvsr", "truth"]
SECOND = "second #2? 100%"
"""A clip's name that has to be quoted in a URL."""
RUNS = 13
"""More than twice the page's colours."""
VISIBLE = "[...document.querySelectorAll('.clip:not([hidden]) video')]"


def write_truth(folder: Path, *clips: str) -> None:
    for clip in clips:
        (folder / clip).mkdir(parents=True)
        for i, frame in enumerate(moving(6, 128, 160, 2)):
            cv2.imwrite(str(folder / clip / f"{i}.png"), frame)


def untrained_frvsr(path: Path) -> Path:
    torch.manual_seed(0)
    config = {"channels": 8, "blocks": 1}
    header = weights.Header(architecture="frvsr", config=config, degradation="BI", training={}, quality={})
    weights.save(path, header, FRVSR(**config).state_dict())
    return path


def report(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--device", "cpu", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_truth(folder / "truth", "first", SECOND)
    models = {"bicubic": {"mean": {"PSNR-Y": 23.5, "LPIPS": 0.5}}, "ours": {"mean": {"PSNR-Y": 26.25, "LPIPS": 0.25}}}
    (folder / "vid4-bi.json").write_text(json.dumps({"protocol": {"source": "all frames"}, "models": models}))
    measured = {"steps_per_second": 40.0, "waiting_for_data": 0.0125, "peak_gib": 2.5}
    steps = {"baseline": measured, "large": {"failed": "out of memory"}}
    (folder / "training.json").write_text(json.dumps({"device": "a card", "runs": steps}))
    rows = ["step,seconds,loss,real_settled", "1,60,0.5,", "2,120,0.4,20", "3,180,0.3,21"]
    for run in range(RUNS):
        (folder / f"run {run:02}").mkdir()
        (folder / f"run {run:02}" / "curves.csv").write_text("\n".join(rows))
    options = {"--truth": folder / "truth", "--samples": folder, "--out": folder / "page"}
    words = [*(word for pair in options.items() for word in pair), "--curves", folder]
    done = report(untrained_frvsr(folder / "frvsr-bi.safetensors"), "rafrvsr", *words)
    assert done.returncode == 0, done.stderr
    return folder / "page" / "index.html"


@pytest.fixture
def page(page_file: Path) -> Iterator[Any]:
    """The page, loaded; at the end nothing may have gone wrong, and nothing may have come from elsewhere."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium on PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    faults: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("requestfailed", lambda request: faults.append(request.url))
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page_file.as_uri())
        yield tab
        browser.close()
    assert faults == []
    assert [url for url in asked if not url.startswith((page_file.parent.as_uri(), "data:"))] == []


def test_everything_is_there(page: Any) -> None:  # noqa: ANN401
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("#first .crops .label").all_inner_texts() == WAYS
    assert page.locator("#first .crops img").count() == len(WAYS)  # the frame has room for one detail
    assert page.locator("caption").all_inner_texts() == ["Vid4 bi: all frames", "Training steps, a card"]
    assert page.locator("td.best").all_inner_texts() == ["26.250", "0.2500"]
    assert page.locator("polyline").count() == 2 * RUNS


def test_every_run_of_a_chart_looks_its_own_way_in_the_legend_too(page: Any) -> None:  # noqa: ANN401
    look = "shapes => shapes.map(getComputedStyle).map(style => style.stroke + ', ' + style.strokeDasharray)"
    chart = page.locator(".charts figure").first
    lines = chart.locator("polyline").evaluate_all(look)
    assert len(set(lines)) == RUNS
    assert chart.locator(".legend path").evaluate_all(look) == lines


def test_steps_of_training_have_a_row_each(page_file: Path) -> None:
    html = page_file.read_text()
    assert "training steps, a card" in html
    rows = html.split("training steps, a card")[1].split("</table>")[0]
    assert re.findall(r"<th [^>]*>(.*?)</th>", rows) == ["recipe", "steps/s", "waiting for data, %", "memory, GiB"]
    assert re.findall(r"<td[^>]*>(.*?)</td>", rows) == ["rafrvsr-bi", "40.000", "1.250", "2.500", "large", "", "", ""]


def test_the_slider_moves_and_the_pictures_can_be_chosen(page: Any) -> None:  # noqa: ANN401
    left, slider = page.locator("#first .left"), page.locator("#first input")
    assert left.evaluate("image => getComputedStyle(image).clipPath") == "inset(0px 50% 0px 0px)"
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, middle)
    page.mouse.up()
    at = float(slider.input_value())
    assert 20 < at < 30
    assert left.evaluate("image => getComputedStyle(image).clipPath") == f"inset(0px {100 - at:g}% 0px 0px)"
    slider.press("ArrowRight")
    assert f"{at + 0.5:g}%" in page.locator("#first .compare").get_attribute("style")
    page.locator("#first select").first.select_option(label="truth")
    assert left.get_attribute("src") == "first-truth.png"
    page.wait_for_function("document.querySelector('#first .left').naturalWidth == 160")


def test_videos_play_together_again_and_again_and_stop(page: Any) -> None:  # noqa: ANN401
    played = f"{VISIBLE}.every(video => video.played.length && video.played.end(0) > 0.1 && !video.error)"
    page.wait_for_function(played)
    page.evaluate(f"{VISIBLE}.forEach(video => {{ video.onplay = () => {{ video.again = !video.currentTime; }}; }})")
    page.wait_for_function(f"{VISIBLE}.every(video => video.again)", timeout=10_000)
    page.get_by_role("button", name="Pause").click()
    assert page.evaluate(f"{VISIBLE}.every(video => video.paused)")
    page.get_by_role("button", name=SECOND).click()
    assert page.locator("#first").is_hidden()
    page.wait_for_function(played)
    assert page.evaluate(f"{VISIBLE}.map(video => video.videoWidth)") == [40, 160, 160, 160, 160]
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_without_a_browser_shipped_curves_and_what_was_skipped(tmp_path: Path) -> None:
    write_truth(tmp_path / "truth", "whole")
    (tmp_path / "truth" / "empty").mkdir()
    (tmp_path / "truth" / "small").mkdir()  # than a detail
    cv2.imwrite(str(tmp_path / "truth" / "small" / "0.png"), moving(1, 64, 160, 2)[0])
    done = report("bicubic", "--frames", "1", "--truth", tmp_path / "truth", "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    assert "2 read, 1 skipped" in done.stdout
    assert "empty: 0 frames, 1 needed" in done.stdout
    shown = list(charts(sorted((SCRIPT.parents[1] / "samples" / "curves").rglob("curves.csv"))))
    html = (tmp_path / "page" / "index.html").read_text()
    assert {file.name for file in (tmp_path / "page").glob("*-truth-*.png")} == {"whole-truth-0.png"}
    assert html.count("<polyline") == sum(len(chart.lines) for chart in shown) > 0


@pytest.mark.parametrize(
    ("installed", "shown"),
    [(["rafrvsr", "rafrvsr-bi"], ["rafrvsr-bi"]), (["rafrvsr-bi", "frvsr-bd", "frvsr-bi"], ["frvsr-bi", "rafrvsr-bi"])],
)
def test_the_models_of_clean_input_that_are_installed_are_shown(
    installed: list[str], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("report.MODELS", installed)
    monkeypatch.setattr(sys, "argv", ["report.py"])
    assert arguments().models == shown


def test_what_is_missing_or_ambiguous_is_said(tmp_path: Path) -> None:
    missing = report("--truth", tmp_path / "nowhere", "--out", tmp_path / "page")
    assert missing.stderr.startswith("report: ")
    assert str(tmp_path / "nowhere") in missing.stderr
    both = report("m/a.safetensors", "n/a.safetensors", "--out", tmp_path / "page")
    assert both.stderr == "report: m/a.safetensors and n/a.safetensors would both be called a: rename a file\n"
