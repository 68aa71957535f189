"""The interactive page: in a real browser, without network, it shows what was measured and runs nothing it was told."""

import dataclasses
import re
import sys
import time

import numpy as np
import pytest
from browser import Browser, installed
from click.testing import CliRunner
from surfaces import trained_plane

from landscape.errors import InputError
from landscape.results import SurfaceResult, save
from landscape.spec import LineSpec
from landscape_cli.main import landscape
from landscape_figures import write_page

EVIL = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>&lt;b&gt; $plotly"
PLOT = "document.querySelector('#plot')"
DATA, LAYOUT = f"{PLOT}.data", f"{PLOT}.layout"


def line() -> SurfaceResult:
    x = np.linspace(-1, 2, 7)
    loss = np.array([4.0, 1, 0, np.nan, 0.5, np.inf, 9])
    none = np.zeros(0)
    return SurfaceResult(
        spec=LineSpec(points=7), x=x, y=none, train_loss=loss, train_accuracy=np.linspace(0, 1, 7), test_loss=loss + 1,
        test_accuracy=np.linspace(0, 0.9, 7), labels=("sharp", EVIL), marks=np.array([[0.0], [1.0]]), complete=True,
        evaluations=14,
    )  # fmt: skip


def evil() -> SurfaceResult:
    """A plane with holes in which every text is an attempt."""
    result = trained_plane(4, broken=True)
    return dataclasses.replace(
        result, labels=(EVIL,), axes=(EVIL, "PC 2"), trajectory_labels=(EVIL,) * 4,
        extra_names=("smallest eigenvalue", EVIL), extra=result.extra.repeat(2, axis=-1),
        conditions={EVIL: EVIL}, provenance={"command": [EVIL]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    program = installed()
    if program is None:
        pytest.skip("the page in a browser: needs chromium, chromium-browser or google-chrome on the PATH")
    with Browser(program) as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """The browser with the page of the plane, opened once: without a graphics card that takes seconds."""
    browser.open(write_page(evil(), tmp_path_factory.mktemp("page") / "plane.html"))
    return browser


@pytest.fixture
def plane(opened):
    yield opened
    assert opened.logged == []


def choose(browser: Browser, name: str, value: str) -> None:
    browser.run(f"document.querySelector('[name={name}][value={value}]').click()")


def select(browser: Browser, value: str) -> None:
    browser.run(
        f"(() => {{ const s = document.querySelector('[name=measure]'); s.value = {value!r};"
        "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def heights(browser: Browser) -> np.ndarray:
    return np.array(browser.run(f"{DATA}[0].z"), float).T


def at_rest(browser, expression: str) -> list[float]:
    """The numbers of an expression once they no longer change: a slow browser still works off its mouse."""
    now, still = browser.run(expression), 0
    for _ in range(60):
        time.sleep(0.5)
        before, now = now, browser.run(expression)
        still = still + 1 if np.allclose(before, now, atol=1e-3) else 0
        if still == 3:
            return now
    pytest.fail(f"{expression} does not come to rest")


@pytest.mark.slow
def test_a_plane_turns_and_shows_each_quantity_on_each_scale(plane):
    browser, result = plane, evil()
    choose(browser, "view", "surface")
    assert browser.run(f"{DATA}[0].contours.z.show")
    finite = np.where(np.isfinite(result.train_loss), result.train_loss, np.nan)
    np.testing.assert_allclose(heights(browser), np.log10(finite), rtol=1e-6, atol=1e-6)
    choose(browser, "scale", "linear")
    np.testing.assert_allclose(heights(browser), finite, rtol=1e-6)
    choose(browser, "split", "test")
    expected = np.where(np.isfinite(result.test_loss), result.test_loss, np.nan)
    np.testing.assert_allclose(heights(browser), expected, rtol=1e-6)
    select(browser, "error")
    np.testing.assert_allclose(heights(browser), 100 - 100 * result.test_accuracy, rtol=1e-6)
    select(browser, "smallest eigenvalue")
    np.testing.assert_allclose(heights(browser), result.extra[..., 0], rtol=1e-6, atol=1e-9)
    assert browser.run("document.querySelector('[name=scale][value=log]').disabled")
    assert browser.run("document.querySelector('[name=split][value=test]').disabled")
    text = browser.run(f"{DATA}[0].text[4][5]")
    for told in ("(0.5, 1)", "train loss: 2.251", "test error (%)", "smallest eigenvalue: -0.15"):
        assert told in text

    camera = f"Object.values({PLOT}._fullLayout.scene._scene.getCamera().eye)"
    before = browser.run(camera)
    browser.run(f"{PLOT}.scrollIntoView()")
    x, y = browser.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({PLOT}.getBoundingClientRect())")
    for _ in range(5):  # a browser without a graphics card may still be drawing and miss the mouse
        browser.drag((x, y), (x + 80, y - 40))
        if browser.comes_true(f"{camera}.some((value, k) => Math.abs(value - {before}[k]) > 0.1)", 5):
            break
    turned = at_rest(browser, camera)
    assert np.abs(np.subtract(turned, before)).max() > 0.1
    select(browser, "loss")
    turned = at_rest(browser, camera)  # drawing anew, a slow browser still works off its mouse; a reset is `before`
    assert np.abs(np.subtract(turned, before)).max() > 0.1
    choose(browser, "view", "contour")
    assert browser.run(f"[{DATA}[0].type, !{LAYOUT}.scene]") == ["contour", True]
    kept = browser.run("Object.values(told.figure.layout.scene.camera.eye)")  # for the way back; to go it takes seconds
    np.testing.assert_allclose(kept, turned, atol=0.05)


def test_marks_and_training_stand_at_their_coordinates_and_text_from_a_file_is_never_run(plane):
    browser, result = plane, evil()
    choose(browser, "view", "contour")
    way, marks = (browser.run(f"[{DATA}[{k}].x, {DATA}[{k}].y]") for k in (1, 2))
    np.testing.assert_allclose(way, result.trajectory.T)
    np.testing.assert_allclose(marks, result.marks.T)
    assert browser.run("[...document.querySelector('[name=measure]').options].at(-1).text") == EVIL
    browser.until("!!document.querySelector('.annotation-text')")
    assert browser.run("document.querySelector('.annotation-text').textContent") == EVIL
    assert EVIL in browser.run("document.querySelector('h1').textContent")
    assert EVIL in browser.run("document.querySelector('footer').textContent")
    assert browser.run("document.querySelector('.xtitle').textContent").startswith(EVIL)
    assert browser.run("window.ran === undefined && document.images.length === 0")


def test_a_line_is_a_plot_of_its_curves(browser, tmp_path):
    browser.open(write_page(line(), tmp_path / "line.html"))
    visible = f"{DATA}.filter(t => t.visible).map(t => t.name)"
    assert browser.run(visible) == ["train loss", "test loss"]
    assert browser.run(f"{LAYOUT}.yaxis.type") == "log"
    assert browser.run(f"Array.from({DATA}[0].y)") == [4, 1, 0, None, 0.5, None, 9]
    choose(browser, "scale", "linear")
    assert browser.run(f"{LAYOUT}.yaxis.type") == "linear"
    select(browser, "error")
    assert browser.run(visible) == ["train error (%)", "test error (%)"]
    assert browser.logged == []


def test_the_page_holds_everything_and_says_its_weight(tmp_path):
    path = write_page(trained_plane(), tmp_path / "page.html")
    html = path.read_text("utf-8")
    own = html.replace(re.search(r"<script>/\*\*.*?</script>", html, re.DOTALL)[0], "")
    assert len(own) < 100_000
    assert re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", own) == ["https://plotly.com/javascript/"]
    told = float(re.search(r"This page is ([\d.]+) MB", html)[1])
    assert told == pytest.approx(path.stat().st_size / 1e6, abs=0.06)
    assert "landscape surface random runs/sam" in html
    assert "<dt>examples</dt><dd>1437</dd>" in html


def test_unfit_requests_are_refused(tmp_path, monkeypatch):
    page = write_page(trained_plane(), tmp_path / "page.html")
    before = page.read_bytes()
    with pytest.raises(InputError, match="does not exist yet"):
        write_page(trained_plane(), page)
    assert page.read_bytes() == before
    cube = dataclasses.replace(trained_plane(), z=np.zeros(3))
    with pytest.raises(InputError, match="one or two axes"):
        write_page(cube, tmp_path / "cube.html")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"pip install 'landscape-sharpness\[html\]'"):
        write_page(trained_plane(), tmp_path / "other.html")


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(trained_plane(), "plane.safetensors")
    save(line(), "line.safetensors")
    words = ["page", "plane.safetensors", "line.safetensors", "--title", "Two scans"]
    first = CliRunner().invoke(landscape, words)
    assert first.exit_code == 0, first.output
    assert first.stderr.count("MB)") == 2
    assert "<title>Two scans</title>" in (tmp_path / "line.html").read_text("utf-8")
    again = CliRunner().invoke(landscape, words)
    assert again.exit_code == 2
    assert CliRunner().invoke(landscape, [*words, "-o", "pages"]).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["line.html", "plane.html"]
    refused = CliRunner().invoke(landscape, [*words, "-o", "one.html"])
    assert "a folder, for several results" in refused.stderr
