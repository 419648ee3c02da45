"""The result page's tables and charts, without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from evaluating.figures import SIZE, charts, tables

SAMPLES = Path(__file__).parents[2] / "samples"


def test_evaluate_s_table_marks_the_best_of_each_column(tmp_path: Path) -> None:
    models = {
        "bicubic": {"mean": {"tOF": 0.5, "PSNR-Y": 23.5}},
        "ours": {"mean": {"tOF": 0.25, "PSNR-Y": 26.25, "LPIPS": 0.25}},
    }
    (tmp_path / "vid4-bi.json").write_text(json.dumps({"protocol": {"source": "all frames"}, "models": models}))
    (tmp_path / "speed.json").write_text('{"rows": []}')
    (found,) = tables(tmp_path)
    assert found.title == "vid4 bi: all frames"
    assert [*found.names, *found.columns] == ["model", "PSNR-Y", "LPIPS", "tOF"]
    assert found.rows == [["bicubic", "23.500", "", "0.5000"], ["ours", "26.250", "0.2500", "0.2500"]]
    assert found.best == {(1, 1), (1, 3)}


def test_noise_s_tables_compare_within_a_damage(tmp_path: Path) -> None:
    rows = {
        "clean": {"bicubic": {"PSNR-Y": 23.0, "residual noise": 1.0}, "ours": {"PSNR-Y": 26.0, "residual noise": 0.5}},
        "noise 10": {
            "bicubic": {"PSNR-Y": 22.0, "residual noise": 1.0},
            "ours": {"PSNR-Y": 21.0, "residual noise": 1.5},
        },
    }
    part = {"protocol": {"source": "all frames"}, "rows": rows}
    alone = {"protocol": {"source": "a crop"}, "rows": {"clean": {"bicubic-aligned": {"PSNR-Y": 23.5}}}}
    (tmp_path / "noise.json").write_text(json.dumps({"tables": {"bi": part, "bd": alone}}))
    bi, bd = tables(tmp_path)
    assert bi.title == "noise, BI input: all frames"
    assert bi.names == ["LR clip", "model"]
    assert [row[:3] for row in bi.rows] == [
        ["clean", "bicubic", "23.000"],
        ["", "ours", "26.000"],
        ["noise 10", "bicubic", "22.000"],
        ["", "ours", "21.000"],
    ]
    assert bi.best == {(1, 2), (1, 3), (2, 2), (2, 3)}
    assert (bd.title, bd.best) == ("noise, BD input: a crop", set())


def test_a_table_of_flow_networks(tmp_path: Path) -> None:
    runs = {
        "fnet": {"scale": 1, "updates": {"0": {"EPE": 0.75, "ms 480x270": 1.5}}},
        "baseline": {"scale": 0.5, "updates": {"3": {"EPE": 0.5, "ms 480x270": 2.5}, "6": {"EPE": 0.25}}},
        "baseline, raft_large": {"scale": 2, "updates": {"3": {}}},
    }
    (tmp_path / "flow.json").write_text(json.dumps({"device": "a card", "clips": {}, "runs": runs}))
    (found,) = tables(tmp_path)
    assert found.title == "flow, a card"
    assert found.rows == [
        ["fnet", "x1", "", "0.750", "1.500"],
        ["raft-x2", "x0.5", "3", "0.500", "2.500"],
        ["raft-x2", "x0.5", "6", "0.250", ""],
        ["raft-x2, raft_large", "x2", "3", "", ""],
    ]
    assert found.best == {(2, 3), (0, 4)}


def test_a_table_of_short_runs_compares_within_a_round(tmp_path: Path) -> None:
    rounds = [
        [
            {"name": name, "final": {"real_settled": real, "camera_settled": 20.0 - i, "loss": 1.0}}
            for i, name, real in part
        ]
        for part in ([(0, "baseline", 28.0), (1, "wide", 28.5)], [(0, "baseline", 29.0)])
    ]
    (tmp_path / "plateau.json").write_text(json.dumps({"rounds": rounds}))
    (found,) = tables(tmp_path)
    assert found.columns == ["filmed, dB", "made, dB"]
    assert found.rows == [
        ["1", "baseline", "28.000", "20.000"],
        ["", "wide", "28.500", "19.000"],
        ["2", "baseline", "29.000", "20.000"],
    ]
    assert found.best == {(1, 2), (0, 3)}


def test_a_table_of_long_shots_takes_the_clips_that_all_models_have(tmp_path: Path) -> None:
    models = {
        "bicubic": {"city": [24.0, 25.0], "walk": [26.0, 26.0], "later": [10.0, 10.0]},
        "ours": {"weights": "a fingerprint", "city": [27.0, 21.0], "walk": [29.0, 30.0]},
    }
    result = {"machine": "CPU", "frames": 40, "unit": "dB, means of 20 frames", "models": models}
    (tmp_path / "stability.json").write_text(json.dumps(result))
    (found,) = tables(tmp_path)
    assert found.title == "stability, along a shot: dB, means of 20 frames"
    assert [*found.names, *found.columns] == ["model", "from 0", "from 20"]
    assert found.rows == [["bicubic", "25.000", "25.500"], ["ours", "28.000", "25.500"]]


def test_a_table_of_what_is_known_by_heart_marks_the_least(tmp_path: Path) -> None:
    def part(gain: float, other: float) -> dict[str, dict[str, float]]:
        figures = {"clips": 9, "gain": gain, "gain by other pixels": other, "learned by heart": gain - other}
        return {"frame 0": dict.fromkeys(figures, 7.0), "settled": figures}

    models = {
        name: {"weights": "a fingerprint", "parts": {"trained on": part(*trained), "held": part(2, 2)}}
        for name, trained in (("a", (3.0, 2.5)), ("b", (2.75, 2.75)))
    }
    (tmp_path / "overfit.json").write_text(json.dumps({"shift": 2, "unit": "dB", "clips": 9, "models": models}))
    (found,) = tables(tmp_path)
    assert [*found.names, *found.columns] == ["clips", "model", "gain", "gain by other pixels", "learned by heart"]
    assert found.rows[:3] == [
        ["trained on", "a", "3.000", "2.500", "0.500"],
        ["", "b", "2.750", "2.750", "0.000"],
        ["held", "a", "2.000", "2.000", "0.000"],
    ]
    assert {(0, 2), (1, 3), (1, 4)} <= found.best


def test_charts_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    for run, losses in {"sound": "321", "spoiled": ("3", "nan", "inf", "2")}.items():
        (tmp_path / run).mkdir()
        rows = [f"{60 * n},{loss}" for n, loss in enumerate(losses, 1)]
        (tmp_path / run / "curves.csv").write_text("\n".join(["seconds,loss", *rows]))
    (loss,) = charts(sorted(tmp_path.rglob("curves.csv")))
    points = {name: re.findall(r"[\d.]+,[\d.]+", points) for _, name, points in loss.lines}
    assert {name: len(found) for name, found in points.items()} == {"sound": 3, "spoiled": 2}
    assert "nan" not in str(loss)


def test_charts_of_runs_cut_off_a_poor_beginning(tmp_path: Path) -> None:
    for run, rows in {
        "a": ["60,0.9,1.0", *(f"{60 * n},0.1,{20 + n}" for n in range(2, 11))],
        "b": ["60,0.5,", "1200,0.3,"],
    }.items():
        (tmp_path / run).mkdir()
        (tmp_path / run / "curves.csv").write_text("\n".join(["seconds,loss,real_settled", *rows]))
    real, loss = charts(sorted(tmp_path.rglob("curves.csv")))
    assert real.title == "Validation, real video: PSNR-Y in dB"
    assert [(number, name) for number, name, _ in real.lines] == [(0, "a")]
    assert [(number, name) for number, name, _ in loss.lines] == [(0, "a"), (1, "b")]
    places = [tuple(map(float, point.split(","))) for point in real.lines[0][2].split()]
    assert places[0] == (SIZE[0] / 10, SIZE[1])  # 1 dB, far below the tick at the bottom
    assert places[-1] == (SIZE[0], 0)
    assert [text for _, text in real.x_ticks] == ["0", "2.5", "5", "7.5", "10"]
    assert [text for _, text in loss.x_ticks] == ["0", "5", "10", "15", "20"]
    assert (float(real.y_ticks[0][1]), float(real.y_ticks[-1][1])) == pytest.approx((19.9, 30), abs=0.1)


def test_what_the_project_shows_of_itself() -> None:
    titles = [found.title.split(":")[0] for found in tables(SAMPLES)]
    assert {"vid4 bi", "vid4 bd", "noise, BI input", "plateau", "stability, along a shot", "overfit"} <= set(titles)
    assert len(list(charts(sorted((SAMPLES / "curves").rglob("curves.csv"))))) >= 2
