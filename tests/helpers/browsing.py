"""`nonet serve` in a process of its own, and its pages in Chromium."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Marks of a test module that needs the fixture `browser`.
NEEDS_BROWSER = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium: "apt-get install chromium"'),
]
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@contextmanager
def served(run, *words, reviewer="Ada"):
    """Serve a run; yield the page's address and the process."""
    command = [sys.executable, "-m", "nonet", "serve", run, *words, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--reviewer", reviewer] if reviewer else command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        said = iter(process.stderr.readline, "")
        address = next(found.group() for line in said if (found := re.search(r"https?://\S+", line)))
        yield address, process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def opened(browser, address, *, expected=(), **options):
    """Yield a page on which no error, and no breach of the content security policy, is to happen.

    `expected` are words of messages that the browser may write, such as those about refused requests.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
    page, said = context.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    unexpected = [text for text in said if not any(words in text for words in expected)]
    assert unexpected == [], unexpected


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def until(page, expression, seconds=20):
    """Wait for JavaScript to be true; Playwright's own function is stopped by the content security policy."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression}\non {page.url}:\n{page.inner_text('body')}"
        time.sleep(0.02)


def get_json(page, path):
    """Return JSON that the page can read."""
    return json.loads(page.evaluate("(path) => fetch(path).then((answer) => answer.text())", path))


def fits(page):
    """Whether the page is no wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")
