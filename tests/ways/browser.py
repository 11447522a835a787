"""Open a lesson in headless Chromium and use its attention views as a person would: `make test-browser` (Linux).

JupyterLab, its kernel and Chromium all run inside a network namespace without any network. The lesson is shown in five
ways: in JupyterLab, where all cells are run through the menu; in JupyterLab again, from the outputs that were saved; as
the HTML file that nbconvert makes, with and without its CDN addresses; and each output in a frame, as in Colab. In each
of them every view has to draw all its lines and to answer to hovering, clicking and its menus, every picture has to be
there, and neither the console nor the list of requests may hold anything that is not expected. Needs the optional
requirements `.[browser]` and Debian's `chromium` and `chromium-driver`. Writes `screenshots/` and nothing else.

Usage: python tests/ways/browser.py [NOTEBOOK]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import offline
from nbconvert import HTMLExporter
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from inside_bert import attention_views

LESSON = offline.ROOT / "notebooks" / "03_attention_visualization.ipynb"
SCREENSHOTS = offline.ROOT / "screenshots"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)
PORT = 8888  # the namespace is new, so every port in it is free
RUN_LIMIT = 300  # seconds for all cells of the lesson
MOUSE = 50  # milliseconds on the way to what is clicked
SOON = 20  # seconds for anything that a person would wait for
ASKED = ("require_js_url", "mathjax_url")  # what nbconvert's template loads from a content network, by its option
CDN = tuple(getattr(HTMLExporter, name).default_value for name in ASKED)
NO_CDN = tuple(f"--HTMLExporter.{name}=data:text/javascript," for name in ASKED)
PUSHED = re.compile(r"\.push\((\{.*?\})\);</script>", re.DOTALL)
PAIR_MENU = ("all", "aa", "bb", "ab", "ba")


class Report:
    """Counts what was checked, and prints a line for each."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def check(self, what: str, good: bool, detail: object = "") -> None:
        print(f"{'passed' if good else 'FAILED'}  {what}{f': {detail}' if detail != '' else ''}", flush=True)
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)

    def equal(self, what: str, found: Any, expected: Any) -> None:
        good = found == expected
        self.check(
            what, good, (found if isinstance(found, int) else "") if good else f"{found!r}, expected {expected!r}"
        )

    def soon(self, what: str, look: Callable[[], Any], expected: Any) -> None:
        """Check that `look()` becomes `expected` within the time that a person would wait."""
        end = time.monotonic() + SOON
        while (found := look()) != expected and time.monotonic() < end:
            time.sleep(0.05)
        self.equal(what, found, expected)

    def changes(self, what: str, look: Callable[[], Any], before: Any) -> None:
        """Check that `look()` becomes something else than `before`."""
        end = time.monotonic() + SOON
        while (found := look()) == before and time.monotonic() < end:
            time.sleep(0.05)
        self.check(what, found != before)


@dataclass(frozen=True)
class Given:
    """What a view was given, as its output in the notebook says."""

    name: str
    kind: str
    tokens: list[str]
    split: int | None
    layers: list[int]
    heads: list[int]
    elements: int  # d, in the neuron view
    markup: str = field(repr=False)

    def texts(self, part: str) -> tuple[list[str], list[str]]:
        """Return the tokens on the left and on the right for one choice of the menu "Attention"."""
        sides = {"all": self.tokens, "a": self.tokens[: self.split], "b": self.tokens[self.split :]}
        return (sides["all"], sides["all"]) if part == "all" else (sides[part[0]], sides[part[1]])


def views_in(notebook: nbformat.NotebookNode) -> list[Given]:
    """Return what the views of a notebook were given, in order."""
    found = []
    for markup in outputs_of(notebook, "text/html"):
        for text in PUSHED.findall(markup):
            view = json.loads(text)
            shape = view["arrays"]["attention"]["shape"]  # (L, H, T, T)
            heads = view["options"].get("include_heads") or list(range(shape[1]))
            elements = view["arrays"]["queries"]["shape"][-1] if "queries" in view["arrays"] else 0
            places = (view["id"], view["kind"], view["tokens"], view["split"], view["layers"], heads, elements)
            found.append(Given(*places, markup))
    return found


def outputs_of(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


class Page:
    """Chromium on a page, or on a frame that fills the window: look, hover, click, take a picture."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def find(self, selector: str, within: WebElement | None = None) -> list[WebElement]:
        return (within or self.driver).find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, look: Callable[[], Any], seconds: float = SOON, what: str = "") -> Any:
        return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: look(), what)

    def leave(self) -> None:
        """Move the mouse to where nothing is."""
        actions = ActionBuilder(self.driver, duration=MOUSE)
        actions.pointer_action.move_to_location(2, 2)
        actions.perform()

    def show(self, element: WebElement) -> None:
        """Scroll to an element and wait until it stands still: cells above it may be laid out only now."""
        place = None
        for _ in range(SOON * 10):
            self.run("arguments[0].scrollIntoView({block: 'center', inline: 'nearest'})", element)
            time.sleep(0.1)
            now = self.run("const box = arguments[0].getBoundingClientRect(); return [box.x, box.y]", element)
            if now == place:
                return
            place = now
        raise TimeoutError("the page does not stop moving")

    def hover(self, element: WebElement) -> None:
        ActionChains(self.driver, duration=MOUSE).move_to_element(element).perform()

    def click(self, element: WebElement) -> None:
        ActionChains(self.driver, duration=MOUSE).move_to_element(element).click().perform()

    def picture(self, element: WebElement, name: str) -> bytes:
        """Store what is seen of `element` as `screenshots/<name>.png`; return its pixels."""
        left, top, right, bottom = self.run(
            "const [box, panel] = [arguments[0], arguments[0].closest('.jp-WindowedPanel-outer') ?? document.body]"
            ".map(part => part.getBoundingClientRect());"  # without JupyterLab's bars, which change by themselves
            "return [box.left, Math.max(box.top, panel.top), box.right, Math.min(box.bottom, panel.bottom)]",
            element,
        )
        whole = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        box = (max(0, left), max(0, top), min(whole.width, right), min(whole.height, bottom))
        seen = whole.crop([round(side) for side in box])
        SCREENSHOTS.mkdir(exist_ok=True)
        seen.save(SCREENSHOTS / f"{name}.png")
        return seen.tobytes()


class View:
    """One drawn view on a page, with the checks that belong to its kind."""

    def __init__(self, page: Page, report: Report, root: WebElement, given: Given, name: str) -> None:
        self.page, self.report, self.root, self.given, self.name = page, report, root, given, name

    def look(self, script: str) -> Any:
        """Run a script that may call `all(selector)` for the elements of this view."""
        return self.page.run(
            "const all = (selector) => [...arguments[0].querySelectorAll(selector)];" + script, self.root
        )

    def find(self, selector: str) -> list[WebElement]:
        return self.page.find(selector, self.root)

    def texts(self, selector: str) -> list[str]:
        return self.look(f"return all({selector!r}).map(element => element.textContent)")

    def line_opacities(self) -> list[str]:
        return self.look("return all('svg line').map(line => line.getAttribute('stroke-opacity'))")

    def group_opacities(self, selector: str) -> list[str]:
        return self.look(f"return all({selector!r}).map(group => group.style.opacity)")

    def check(self) -> None:
        """Check that the view drew; then use it, with a picture before and after."""
        self.page.show(self.root)
        self.report.soon(f"{self.name} draws", lambda: self.root.get_attribute("data-drawn"), self.given.kind)
        drew = bool(self.line_opacities())
        self.report.check(f"{self.name}: lines are there", drew)
        if not drew:
            return
        self.page.leave()
        {"head_view": self.head_view, "model_view": self.model_view, "neuron_view": self.neuron_view}[self.given.kind]()

    def changes_on(self, what: str, element: WebElement, act: Callable[[WebElement], None], see: Callable) -> None:
        """Act on an element, run the checks `see`, and check that the pixels of the view are others than before."""
        self.page.show(element)
        before = self.page.picture(self.root, f"{self.name}-before".replace(" ", "-"))
        act(element)
        see()
        after = self.page.picture(self.root, f"{self.name}-after".replace(" ", "-"))
        self.report.check(f"{self.name}: {what} changes the picture", before != after)

    def choose(self, menu: str) -> None:
        """Choose another option of a menu, if it has several; other lines have to be shown."""
        select = Select(self.find(menu)[0])
        if len(select.options) > 1:
            before = self.line_opacities()
            others = [option for option in select.options if not option.is_selected()]
            select.select_by_visible_text(others[-1].text)
            self.report.changes(f"{self.name}: {menu} {others[-1].text} shows other lines", self.line_opacities, before)

    def choose_parts(self, left: str, right: str) -> None:
        """For a pair of texts: each choice of the menu "Attention" shows the tokens that belong to it."""
        menus = self.find("#filter")
        self.report.equal(f"{self.name}: menu of a pair", len(menus), int(self.given.split is not None))
        for place, part in enumerate(PAIR_MENU * len(menus)):
            Select(menus[0]).select_by_index(place)
            expected = list(self.given.texts(part))
            shown = menus[0].get_attribute("value")
            self.report.soon(
                f"{self.name}: tokens of {part} ({shown})", lambda: [self.texts(left), self.texts(right)], expected
            )
        for menu in menus:
            Select(menu).select_by_index(0)

    def head_view(self) -> None:
        given, report, page = self.given, self.report, self.page
        left, right = "#left text", "#right text"
        report.equal(f"{self.name}: tokens", [self.texts(left), self.texts(right)], [given.tokens] * 2)
        report.equal(f"{self.name}: lines", len(self.line_opacities()), len(given.heads) * len(given.tokens) ** 2)
        count = "return all('line[visibility=visible]').length"
        place = min(1, len(given.tokens) - 1)

        def highlighted() -> None:
            report.soon(
                f"{self.name}: lines of the token hovered over",
                lambda: self.look(count),
                len(given.heads) * len(given.tokens),
            )
            marked = [str(int(place == n)) for n in range(len(given.tokens))]
            report.soon(f"{self.name}: the token is marked", lambda: self.group_opacities("#left .background"), marked)

        self.changes_on("hovering", self.find(left)[place], page.hover, highlighted)
        page.leave()
        report.soon(f"{self.name}: leaving shows all lines again", lambda: self.look(count), 0)

        squares = self.find("svg > g:last-child > rect")
        report.equal(f"{self.name}: a square for each head", len(squares), len(given.heads))
        per_head = (
            "const seen = (line) => +line.getAttribute('stroke-opacity') > 0;"
            "return all('.headAttention').map(head => [...head.querySelectorAll('line')].some(seen))"
        )
        shown = self.look(per_head)
        head = shown.index(True) if sum(shown) > 1 else shown.index(False)
        page.show(squares[head])
        page.click(squares[head])
        expected = [not on if n == head else on for n, on in enumerate(shown)]
        report.soon(
            f"{self.name}: clicking the square of head {head} turns it on or off", lambda: self.look(per_head), expected
        )
        self.choose("#layer")
        self.choose_parts(left, right)

    def model_view(self) -> None:
        given, report, page = self.given, self.report, self.page
        layers, heads = given.layers, given.heads
        report.equal(
            f"{self.name}: lines", len(self.line_opacities()), len(layers) * len(heads) * len(given.tokens) ** 2
        )
        report.equal(f"{self.name}: thumbnails", len(self.find(".attn_background")), len(layers) * len(heads))

        def enlarged() -> None:
            heading = f"Layer {layers[-1]}, Head {heads[0]}"
            report.soon(f"{self.name}: {heading} is enlarged", lambda: self.texts("text.detail"), [heading])
            report.equal(f"{self.name}: tokens", self.texts(".detail text.token"), given.tokens * 2)
            report.equal(f"{self.name}: lines enlarged", len(self.find(".detail line")), len(given.tokens) ** 2)

        self.changes_on("clicking", self.thumbnail(len(layers) - 1, 0), page.click, enlarged)
        place = min(1, len(given.tokens) - 1)
        token = self.find(".detail text.token")[place]
        page.show(token)
        page.hover(token)
        only = [str(int(place == n)) for n in range(len(given.tokens))]
        report.soon(
            f"{self.name}: hovering leaves one token's lines", lambda: self.group_opacities(".attn-line-group"), only
        )
        page.click(self.thumbnail(len(layers) - 1, 0))
        report.soon(f"{self.name}: a second click closes it", lambda: len(self.find(".detail")), 0)
        for part in PAIR_MENU if given.split else ():
            Select(self.find("#filter")[0]).select_by_index(PAIR_MENU.index(part))
            left, right = given.texts(part)
            lines = len(layers) * len(heads) * len(left) * len(right)
            report.soon(f"{self.name}: lines of {part}", lambda: len(self.line_opacities()), lines)
            corner = self.thumbnail(0, PAIR_MENU.index(part) % len(heads))  # each time another one
            page.show(corner)
            page.click(corner)
            report.soon(f"{self.name}: tokens of {part}", lambda: self.texts(".detail text.token"), left + right)
            page.click(corner)

    def thumbnail(self, layer: int, head: int) -> WebElement:
        return self.find(f"#attn_background_{layer}_{head} ~ rect")[0]

    def neuron_view(self) -> None:
        given, report, page = self.given, self.report, self.page
        count = len(given.tokens)
        left, right = "#collapsed #leftText text.token", "#collapsed #rightText text.token"
        report.equal(f"{self.name}: tokens", [self.texts(left), self.texts(right)], [given.tokens] * 2)
        report.equal(f"{self.name}: lines", len(self.find("#collapsed .attn-line-group line")), count**2)
        place = min(1, count - 1)
        only = [str(int(place == n)) for n in range(count)]

        def highlighted() -> None:
            for what, selector in (("lines", ".attn-line-group"), ("plus sign", "#leftText .plus-sign")):
                report.soon(
                    f"{self.name}: {what} of the token hovered over",
                    lambda s=selector: self.group_opacities(f"#collapsed {s}"),
                    only,
                )

        self.changes_on("hovering", self.find(left)[place], page.hover, highlighted)

        visible = (
            "return ['collapsed', 'expanded'].filter(id => all('#' + id)[0].getAttribute('visibility') === 'visible')"
        )
        page.click(self.find("#collapsed #leftText rect:last-child")[place])
        report.soon(f"{self.name}: clicking the plus sign opens it", lambda: self.look(visible), ["expanded"])
        page.hover(self.find("#expanded #leftText text.token")[place])
        report.soon(
            f"{self.name}: q x k is shown",
            lambda: self.group_opacities("#expanded #product, #expanded #dotproducts"),
            ["1", "1"],
        )
        for part in ("queries", "keys", "product"):
            report.equal(
                f"{self.name}: elements of {part}",
                len(self.find(f"#expanded #{part} .element")),
                count * given.elements,
            )
        products = (
            "const values = (selector) => all(selector).map(element => +element.dataset.value);"
            f"const [d, first] = [{given.elements}, {place * given.elements}];"
            "const [q, k, product] = ['queries', 'keys', 'product'].map(part => values(`#${part} .element`));"
            "const dots = values('.dotproduct');"
            "const near = (a, b) => Math.abs(a - b) < 1e-9;"
            "return product.every((x, n) => near(x, q[first + n % d] * k[n])) && dots.every((x, n) => "
            "near(x, product.slice(n * d, (n + 1) * d).reduce((sum, y) => sum + y) / Math.sqrt(d)))"
        )
        report.check(
            f"{self.name}: q x k is the product of what is shown, q . k its sum over the root of d", self.look(products)
        )
        page.picture(self.root, f"{self.name}-expanded".replace(" ", "-"))
        page.click(self.find("#expanded #leftText rect:last-child")[place])
        report.soon(f"{self.name}: clicking the minus sign closes it", lambda: self.look(visible), ["collapsed"])
        page.leave()
        self.choose("#layer")
        self.choose("#att_head")
        self.choose_parts(left, right)


def check_views(page: Page, report: Report, given: Sequence[Given], way: str) -> None:
    """Check every view on a page against what it was given."""
    roots = page.find("[data-view]")
    names = [root.get_attribute("data-view") for root in roots]
    report.equal(f"{way}: views on the page", names, [view.name for view in given])
    report.check(f"{way}: views to check", bool(names), len(names))
    for place, (root, view) in enumerate(zip(roots, given, strict=False), start=1):
        View(page, report, root, view, f"{way} {place} {view.kind.replace('_', ' ')}").check()


def check_pictures(page: Page, report: Report, notebook: nbformat.NotebookNode, at_least: int, way: str) -> None:
    """Check that every picture of the notebook is seen on the page, and that the notebook holds its alt text.

    Neither JupyterLab nor nbconvert hands a stored alt text on to the page, so the page cannot be asked for it.
    """
    widths = page.run("return [...document.querySelectorAll('.jp-OutputArea-output img')].map(img => img.naturalWidth)")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    report.check(f"{way}: pictures", len(widths) >= max(at_least, len(pictures)) and all(widths), len(widths))
    alts = [output.metadata.get("image/png", {}).get("alt", "") for output in pictures]
    report.check(f"{way}: the notebook holds an alt text for every picture", all(alts), alts.count("") or "")


@contextlib.contextmanager
def one_way(driver: webdriver.Chrome, report: Report, way: str, can_fail: Sequence[str] = ()) -> Iterator[None]:
    """Check one way of showing the lesson, and at its end what the console and the network log have gathered.

    An exception that ends it early counts as a failure and is printed whole; the other ways still have their turn.
    `can_fail` holds the only addresses that may be asked in vain.
    """
    started = time.monotonic()
    print(f"\n{way}", flush=True)
    try:
        yield
    except Exception:
        traceback.print_exc(file=sys.stdout)
        report.check(f"{way}: ran to its end", False, "see above")
    severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    in_vain = tuple(f"{address} - Failed to load resource" for address in can_fail)
    errors = [message for message in severe if not message.startswith(in_vain)]
    report.check(f"{way}: no error in the console", not errors, "\n  ".join(["", *errors]) if errors else "")
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked += [event["params"]["url"] for event in events if event["method"] == "Network.webSocketCreated"]
    outside = sorted({address for address in asked if not is_local(address)} - set(can_fail))
    report.check(f"{way}: {len(asked)} requests, none to the outside", bool(asked) and not outside, outside or "")
    driver.switch_to.default_content()
    driver.get("about:blank")  # what was open would miss a server that has ended
    print(f"        {time.monotonic() - started:.0f} s", flush=True)


def is_local(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("data", "blob", "file", "about") or parts.hostname in ("127.0.0.1", "localhost")


@contextlib.contextmanager
def chromium(binary: str, folder: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={folder / 'chromium'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get("about:blank")
        for log in driver.log_types:
            driver.get_log(log)  # what Chromium's own start page did
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def jupyterlab(folder: Path, lessons: Path) -> Iterator[str]:
    """Serve `lessons` in JupyterLab with settings of its own; return the address of a notebook in it."""
    token = secrets.token_hex(16)
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    own |= {"IPYTHONDIR": str(folder / "ipython"), "INSIDE_BERT": "embedded", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={PORT}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={lessons}"]
    command += [f"--IdentityProvider.token={token}"]
    # saving by itself every two minutes, it could come before `save`, which waits for the file to change
    settings = folder / "settings" / "@jupyterlab" / "docmanager-extension"
    settings.mkdir(parents=True)
    (settings / "plugin.jupyterlab-settings").write_text('{"autosave": false}\n', encoding="utf-8")
    with (folder / "jupyterlab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=lessons, env={**os.environ, **own}, stdout=log, stderr=log)
        try:
            status = f"http://127.0.0.1:{PORT}/api/status?token={token}"
            end = time.monotonic() + 60
            while not answers(status):
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'jupyterlab.log').read_text()}")
                time.sleep(0.3)
            yield f"http://127.0.0.1:{PORT}/lab/tree/{{}}?token={token}"
        finally:
            server.terminate()
            server.wait(30)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


def choose_in_menu(page: Page, menu: str, item: str) -> None:
    label = "//div[contains(@class, 'lm-{}-itemLabel') and text()='{}']"
    for path in (label.format("MenuBar", menu), label.format("Menu", item)):
        page.click(page.wait(lambda p=path: page.driver.find_elements(By.XPATH, p), what=f"no {path}")[0])


def prompts(page: Page) -> list[str]:
    found = page.run(
        "return [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')]"
        ".map(cell => cell.querySelector('.jp-InputPrompt')?.textContent ?? '')"
    )
    return [prompt.strip("[]: \xa0") for prompt in found]


def open_in_lab(page: Page, address: str, notebook: nbformat.NotebookNode) -> None:
    """Open a notebook and wait until all its code cells are on the page and the kernel is ready."""
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    page.driver.get(address)
    # JupyterLab puts cells on the page when it has nothing else to do, about one a second
    page.wait(lambda: len(prompts(page)) == cells, 300, f"JupyterLab does not show {cells} code cells")
    page.wait(lambda: idle(page), 60, "no kernel")


def idle(page: Page) -> bool:
    return bool(page.find(".jp-Notebook-ExecutionIndicator[data-status='idle']"))


def run_all(page: Page, report: Report, notebook: nbformat.NotebookNode) -> None:
    """Run all cells through the menu; check that each ran and that none shows an error that it should not."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    choose_in_menu(page, "Run", "Run All Cells")

    def finished() -> bool:
        shown = prompts(page)
        return any(prompt.isdigit() for prompt in shown) and "*" not in shown and idle(page)

    page.wait(finished, RUN_LIMIT, f"the cells did not end within {RUN_LIMIT} s")
    expected = iter(range(1, len(code) + 1))
    report.equal(
        "lab: execution counts", prompts(page), [str(next(expected)) if c.source.strip() else "" for c in code]
    )
    red = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
    for place, (cell, shown) in enumerate(zip(code, page.find(".jp-Notebook .jp-CodeCell"), strict=True), start=1):
        errors = [output.text for output in page.find(red, shown)]
        wanted = int("raises-exception" in cell.metadata.get("tags", []))  # JupyterLab goes on after such a cell
        if errors or wanted:
            what = f"lab: code cell {place} shows {'one error, which is wanted' if wanted else 'no error'}"
            good = len(errors) == wanted
            report.check(what, good, "" if good else "\n".join(["", *errors]))


def scroll_through(page: Page, name: str) -> None:
    """Scroll from the first cell to the last, then take one picture of the whole notebook."""
    for cell in page.find(".jp-Cell"):
        page.show(cell)
    panels = "[...document.querySelectorAll('.jp-WindowedPanel-outer'), document.documentElement]"
    height = page.run(f"return Math.max(...{panels}.map(panel => panel.scrollHeight))")
    size = {"width": 1400, "height": min(height + 200, 16_000), "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(1)
    SCREENSHOTS.mkdir(exist_ok=True)
    page.driver.save_screenshot(str(SCREENSHOTS / f"{name}-notebook.png"))
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def save(page: Page, path: Path) -> nbformat.NotebookNode:
    """Save through the menu; return what then stands in the file."""
    before = path.read_bytes()
    choose_in_menu(page, "File", "Save Notebook")
    page.wait(lambda: path.read_bytes() != before, what="JupyterLab saved nothing")
    return nbformat.read(path, as_version=4)


def isolated(given: Sequence[Given], loader: str) -> str:
    """Return a page with each view in a frame of its own, which reaches nothing but a kernel that has the scripts."""
    answer = json.dumps({"data": {"application/json": {"script": loader}}}).replace("<", "\\u003c")
    kernel = (
        f"<script>window.google = {{colab: {{kernel: {{invokeFunction: async (name, args, kwargs) => {{"
        f"if (name !== {json.dumps(attention_views.COLAB_CALL)} || args.length || Object.keys(kwargs).length)"
        f" throw new Error('the kernel knows no ' + name); return {answer};}}}}}}}};</script>"
    )
    frames = []
    for view in given:
        inside = f"<!doctype html><meta charset='utf-8'>{kernel}{view.markup}"
        inside = inside.replace("&", "&amp;").replace('"', "&quot;")
        frames.append(f'<iframe sandbox="allow-scripts" srcdoc="{inside}"></iframe>')
    style = "<style>iframe { position: fixed; inset: 0; width: 100%; height: 100%; background: white }</style>"
    return f"<!doctype html><meta charset='utf-8'>{style}{''.join(frames)}"


def in_lab(driver: webdriver.Chrome, report: Report, address: str, path: Path, stored: nbformat.NotebookNode) -> None:
    """Run the lesson in JupyterLab, use its views, and save it."""
    page = Page(driver)
    emptied = nbformat.read(path, as_version=4)
    open_in_lab(page, f"{address}&reset", emptied)
    report.equal("lab: nothing drawn before the run", len(page.find("[data-view], .jp-OutputArea-output")), 0)
    run_all(page, report, emptied)
    scroll_through(page, "lab")
    notebook = save(page, path)
    given = views_in(notebook)
    report.check("lab: views in the notebook", len(given) >= max(1, len(views_in(stored))), len(given))
    check_views(page, report, given, "lab")
    check_pictures(page, report, notebook, len(outputs_of(stored, "image/png")), "lab")


def reopened(driver: webdriver.Chrome, report: Report, address: str, path: Path) -> None:
    """Open the saved lesson again: the views draw from its outputs, without running a cell."""
    notebook = nbformat.read(path, as_version=4)
    page = Page(driver)
    open_in_lab(page, address, notebook)
    check_views(page, report, views_in(notebook), "reopened")


def exported(
    driver: webdriver.Chrome,
    report: Report,
    way: str,
    path: Path,
    stored: nbformat.NotebookNode,
    options: Sequence[str],
) -> None:
    """Use the views in the HTML file that nbconvert makes of the saved lesson."""
    notebook = nbformat.read(path, as_version=4)
    target = path.with_name(f"{way}.html".replace(" ", "-"))
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level=ERROR", *options]
    subprocess.run([*command, "--output", str(target), str(path)], check=True)
    driver.get(target.as_uri())
    page = Page(driver)
    scroll_through(page, target.stem)
    check_views(page, report, views_in(notebook), way)
    check_pictures(page, report, notebook, len(outputs_of(stored, "image/png")), way)


def in_frames(driver: webdriver.Chrome, report: Report, path: Path) -> None:
    """Use the views as Colab shows them, each in a frame that has its own output only."""
    given = views_in(nbformat.read(path, as_version=4))
    target = path.with_name("frames.html")
    target.write_text(isolated(given, attention_views._loader()), encoding="utf-8")
    driver.get(target.as_uri())
    frames = Page(driver).find("iframe")
    report.check("frames: a view in each", bool(given) and len(frames) == len(given), len(frames))
    for place, (frame, view) in enumerate(zip(frames, given, strict=True), start=1):
        driver.execute_script("arguments[0].style.zIndex = arguments[1]", frame, place)
        driver.switch_to.frame(frame)
        check_views(Page(driver), report, [view], f"frame {place}")
        driver.switch_to.default_content()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path, nargs="?", default=LESSON, help=f"default: {LESSON.name}")
    lesson = parser.parse_args().notebook.resolve()
    binary = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not binary or not shutil.which("chromedriver"):
        names = f"{', '.join(PROGRAMS)}; with chromedriver"
        missing = f"no Chromium here ({names}). On Debian: apt-get install chromium chromium-driver"
        print(f"FAILED: {missing}" if os.environ.get("CI") else f"skipped: {missing}")
        return 1 if os.environ.get("CI") else 0
    status = offline.run_again_without_network()
    if status is not None:
        return status

    report = Report()
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    stored = nbformat.read(lesson, as_version=4)
    with tempfile.TemporaryDirectory() as temporary, chromium(binary, Path(temporary)) as driver:
        print(f"{lesson.name} in {driver.capabilities['browserName']} {driver.capabilities['browserVersion']}")
        path = Path(temporary) / "lessons" / lesson.name
        path.parent.mkdir()
        emptied = nbformat.read(lesson, as_version=4)
        for cell in emptied.cells:
            if cell.cell_type == "code":
                cell.update(outputs=[], execution_count=None)
        nbformat.write(emptied, path)
        with jupyterlab(Path(temporary), path.parent) as server:
            address = server.format(path.name)
            with one_way(driver, report, "lab"):
                in_lab(driver, report, address, path, stored)
            with one_way(driver, report, "reopened"):
                reopened(driver, report, address, path)
        with one_way(driver, report, "html", can_fail=CDN):
            exported(driver, report, "html", path, stored, ())
        with one_way(driver, report, "html without CDN"):
            exported(driver, report, "html without CDN", path, stored, NO_CDN)
        with one_way(driver, report, "frames"):
            in_frames(driver, report, path)
    print(f"pictures of all this are in {SCREENSHOTS.name}/")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
