#!/usr/bin/env python3
"""The page in a browser: with the real server, and with a scripted one for what no model says on
demand (reasoning, tool calls, failures). MACH_PAGE_SHOTS=DIR keeps pictures.

usage: page_test.py MACH CHECKPOINT
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli"))
from rules import CONTRAST, NAMES, OVERFLOW  # noqa: E402
from scripted_server import ScriptedServer  # noqa: E402
from support import Server  # noqa: E402
from webdriver import Browser  # noqa: E402

MACH, CHECKPOINT = sys.argv[1:3]
SHOTS = os.environ.get("MACH_PAGE_SHOTS")
results = {"passed": 0, "failed": 0}

READY = "document.getElementById('loading').hidden && document.getElementById('model-name').innerText != 'mach'"
ENDED = "!document.querySelector('.send.stops') && !!document.querySelector('.assistant:last-child .actions button')"


def check(name, good, detail=""):
    results["passed" if good else "failed"] += 1
    if not good:
        print(f"failed: {name}: {detail}", flush=True)


def shot(browser, name):
    if SHOTS:
        browser.screenshot(pathlib.Path(SHOTS) / f"{name}.png")


def sound(browser, where):
    """What must hold of every state of the page."""
    problems = browser.problems()
    check(f"{where}: nothing in the console, nothing against the policy", not problems, problems)
    unnamed = browser.js(NAMES)
    check(f"{where}: every control has a name", not unnamed, unnamed)


def legible(browser, where):
    for scheme in ("dark", "light"):
        browser.scheme(scheme, reduced_motion=True)
        time.sleep(0.1)
        bad = browser.js(CONTRAST)
        check(f"{where}: contrast, {scheme}", not bad, bad)
        shot(browser, f"{where}-{scheme}")
    browser.scheme("light")


def say(browser, text, ends=True):
    browser.type("#text", text)
    browser.press("enter")
    return browser.wait(ENDED) if ends else browser.wait("!!document.querySelector('.send.stops')")


def last_answer(browser):
    return browser.text(".assistant:last-child .words")


def real_server(browser):
    with Server(MACH, CHECKPOINT, "--backend", "openai") as server:
        page = server.url.removesuffix("v1")
        browser.open(page)
        check("the page loads", browser.wait(READY), browser.text("body"))
        check("it names the model", browser.text("#model-name") in CHECKPOINT, browser.text("#model-name"))
        check("the field has the focus", browser.js("return document.activeElement.id") == "text")
        shot(browser, "empty")
        sound(browser, "empty")

        browser.click("#settings-open")
        for name, value in (("temperature", "0"), ("max_tokens", "48"), ("seed", "7")):
            browser.type(f"#sampling-{name}", value)
        browser.press("escape")
        check("Escape closes the settings", browser.js("return document.getElementById('settings').hidden"))
        check("what differs is shown", "temperature 0" in browser.text("#modes"), browser.text("#modes"))
        check("an answer comes", say(browser, "Name three colours."), browser.text("#messages"))
        first = last_answer(browser)
        check("it has words", len(first) > 10, first)
        receipt = browser.text(".receipt summary")
        check("it has a receipt", "tok/s" in receipt and "prefill" in receipt, receipt)
        browser.click(".receipt summary")
        check("the receipt opens", "Read from disk" in browser.text(".receipt dl"), browser.text(".receipt"))
        sound(browser, "answered")
        legible(browser, "chat")

        browser.js("[...document.querySelectorAll('.assistant .actions button')].at(-1).click()")
        check("regenerated", browser.wait(ENDED))
        check("temperature 0 says the same again", last_answer(browser) == first, last_answer(browser))
        check("Shift+Enter makes a line", browser.type("#text", "a") is None and
              browser.press("shift", "enter") is None and
              browser.js("return document.getElementById('text').value") == "a\n")
        browser.js("document.getElementById('text').value = ''")

        browser.js("document.querySelector('.user .actions button:nth-child(2)').click()")
        browser.type(".editing textarea", " Be brief.")
        browser.press("enter")
        check("edited and sent again", browser.wait(ENDED))
        check("what followed was cut", browser.js("return document.querySelectorAll('.message').length") == 2 and
              "Be brief." in browser.text(".user .words"), browser.text("#messages"))

        browser.click("#new")
        browser.click("#settings-open")
        browser.js("document.getElementById('sampling-max_tokens').value = '2000';"
                   "document.getElementById('sampling-max_tokens').dispatchEvent(new Event('input'))")
        browser.click("#settings-open")
        say(browser, "Write a very long story about the sea.", ends=False)
        growing = browser.wait("document.querySelector('.assistant:last-child .words').innerText.length > 20")
        check("text is shown while it streams", growing and browser.js("return !!document.querySelector('.send.stops')"))
        browser.press("escape")
        check("Escape stops", browser.wait("!document.querySelector('.send.stops')", 10))
        check("and says so", "Stopped." in browser.text(".assistant:last-child .notice"))
        check("the server stopped too", wait_for_idle(browser), "still active")
        check("both conversations are kept", browser.js("return document.querySelectorAll('.conversations .title').length") == 2)
        browser.open(page)
        check("also when the page is opened again", browser.wait(READY) and "long story" in browser.text(".user .words"))

        browser.click("#settings-open")
        browser.js("document.querySelector('#tools').closest('section').querySelector('button').click()")
        browser.click("#settings-open")
        say(browser, "What is the weather?")
        shown = browser.text(".assistant:last-child")
        check("tools: an answer, or the refusal in words with its id",
              "tools" in shown and "Request" in shown or browser.js("return !!document.querySelector('.receipt')"), shown)
        browser.problems()  # the browser itself logs the 400

        browser.click("#tab-live")
        check("the live view has numbers", browser.wait("document.querySelector('.number-now').innerText.includes('tok/s')"),
              browser.text("#live"))
        check("a dense model has no map, and the view says why",
              browser.wait("document.querySelector('#live').innerText.includes('nothing to map')"), browser.text("#live"))
        sound(browser, "live view, dense")


def wait_for_idle(browser):
    for _ in range(40):
        if browser.js("const r = new XMLHttpRequest(); r.open('GET', '/v1/stats', false); r.send();"
                      "return JSON.parse(r.responseText).requests.active") == 0:
            return True
        time.sleep(0.1)
    return False


def with_a_key(browser):
    with Server(MACH, CHECKPOINT, "--backend", "openai", "--api-key", "sesame-1") as server:
        browser.open(server.url.removesuffix("v1"))
        check("the key is asked for", browser.wait("document.getElementById('key-dialog').open"))
        shot(browser, "key")
        browser.type("#key", "wrong")
        browser.press("enter")
        check("a wrong one is not taken", browser.wait("document.getElementById('key-dialog').open && "
                                                       "document.getElementById('key-error').innerText.length > 0"))
        browser.type("#key", "sesame-1")
        browser.press("enter")
        check("the right one is", browser.wait(READY), browser.text("body"))
        browser.js("document.getElementById('text').focus()")
        say(browser, "Hello", ends=False)
        check("it goes with the messages", browser.wait("document.querySelector('.assistant .words').innerText"),
              browser.text("#messages"))
        browser.press("escape")
        check("it is kept for the session only",
              browser.js("return sessionStorage.getItem('mach.key') + JSON.stringify(localStorage).includes('sesame')")
              == "sesame-1false")
        browser.problems()  # the browser itself logs the 401s


def streamed_experts(directory):
    def streamed(browser):
        live_map(browser, directory)
    return streamed


def live_map(browser, directory):
    out = pathlib.Path(directory) / "tiny"
    subprocess.run([MACH, "synth", "--shape", "tiny", "--out", out, "--layers", "12", "--experts", "64",
                    "--router-skew", "1.2"],
                   check=True, capture_output=True)
    record = (out / "expert_sidecar").glob("layer_*.bin")
    total = sum(path.stat().st_size for path in record)
    with Server(MACH, out, "--streaming", "--allow-buffered-io", "--expert-cache-gb", f"{total / 2e9:.6f}") as server:
        browser.open(server.url.removesuffix("v1"))
        check("a synthetic model", browser.wait(READY))
        browser.js("fetch('v1/completions', {method: 'POST', body: JSON.stringify({prompt: 'hello world', "
                   "max_tokens: 200, ignore_eos: true})}); document.getElementById('tab-live').click()")
        check("its experts are mapped", browser.wait("document.querySelector('.map canvas')?.width > 200 && "
                                                     "!document.querySelector('.map').hidden"), browser.text("#live"))
        colours = browser.wait("(() => { const c = document.querySelector('.map canvas'); const d = c.getContext('2d')"
                               ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
                               "for (let i = 0; i < d.length; i += 4) s.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]);"
                               "return s.size > 6 && s.size })()", 30)
        check("the map shows heat", colours, colours)
        browser.js("document.querySelector('.map canvas').focus()")
        browser.press("right")
        check("a cell can be asked about by keys", "Layer 0, expert 0" in browser.text(".said"), browser.text(".said"))
        time.sleep(2.2)
        sound(browser, "live view")
        legible(browser, "live")
        browser.js("document.getElementById('live').scrollTop = 1e6")
        time.sleep(0.5)
        shot(browser, "map")
        browser.js("document.querySelector('.by-layer').open = true")
        check("there is a table too", browser.wait("document.querySelectorAll('.by-layer tbody tr').length == 12"))


def scripted(browser):
    with ScriptedServer(loading_s=5) as server:
        browser.open(server.url)
        check("loading is shown", browser.wait("document.getElementById('loading-detail').innerText.startsWith('62 %')"))
        shot(browser, "loading")
        sound(browser, "loading")
        check("then the page", browser.wait(READY))

        say(browser, "[[think]] first")
        check("thoughts are folded", browser.text(".thinking summary").startswith("Thought for") and
              not browser.js("return document.querySelector('.thinking').open"), browser.text(".thinking"))
        check("and kept apart", last_answer(browser) == "It is forty-two." and
              "wants something" in browser.js("return document.querySelector('.thoughts').textContent"))
        server.step_s = 0.05
        say(browser, "[[think]] again", ends=False)
        check("while they come, the time is shown",
              browser.wait("/Thinking\u2026 \\d+ s/.test(document.querySelector('.assistant:last-child .thinking summary')?.innerText)"))
        browser.wait(ENDED)
        server.step_s = 0.005
        check("thoughts go back with the history", server.requests[-1]["messages"][1]["reasoning_content"].startswith("The user"))

        say(browser, "[[markdown]]")
        check("markdown", browser.js("return ['h4', 'strong', 'em', 'ol li ul li', 'table td', '.code pre', 'blockquote', 'a[rel]']"
                                     ".filter((s) => !document.querySelector('.assistant:last-child .words ' + s))") == [])
        check("what a model says stays text", browser.js("return window.hacked === undefined && "
              "!document.querySelector('.words img, .words script, .words a[href^=javascript]')"))
        check("line ends and indents of code stay", "    a, b = 0, 1\n    for" in
              browser.js("return document.querySelector('.code code').textContent"))
        browser.js("document.querySelector('.words .code button').click()")
        check("code is copied", browser.wait("document.getElementById('toast').innerText.length > 0"))
        sound(browser, "markdown")
        legible(browser, "markdown")

        browser.click("#new")
        browser.click("#settings-open")
        browser.type("#tools", "[{]")
        check("tools that are no JSON are marked", "not JSON" in browser.text("#tools-problem"))
        browser.js("document.querySelector('#tools').closest('section').querySelector('button').click()")
        sound(browser, "settings")
        legible(browser, "settings")
        browser.click("#settings-open")
        server.step_s = 0.05
        say(browser, "[[tools]]", ends=False)
        partial = browser.wait("(() => { const t = document.querySelector('.call.running pre')?.innerText; "
                               "return t && !t.includes('}') && t })()")
        check("arguments are shown as they grow", partial and partial.startswith("{"), partial)
        browser.wait(ENDED)
        server.step_s = 0.005
        check("tools were declared", server.requests[-1]["tools"][0]["function"]["name"] == "get_weather")
        check("two calls", browser.js("return [...document.querySelectorAll('.call-name')].map((e) => e.innerText)")
              == ["get_weather", "get_weather"])
        check("finished arguments are laid out", '"town": "Vienna"' in browser.text(".call:first-child pre"))
        sound(browser, "calls")
        browser.type("#result-call_0", "12 degrees")
        browser.type("#result-call_1", "3 degrees")
        legible(browser, "calls")
        browser.press("enter")
        check("the answer uses the results", browser.wait(ENDED) and "12 degrees; 3 degrees" in last_answer(browser),
              last_answer(browser))
        wire = server.requests[-1]["messages"]
        check("calls and results go back as the API has them",
              [m["role"] for m in wire] == ["user", "assistant", "tool", "tool"] and
              wire[1]["tool_calls"][1]["id"] == wire[3]["tool_call_id"] == "call_1" and
              json.loads(wire[1]["tool_calls"][0]["function"]["arguments"])["town"] == "Vienna", wire)
        shot(browser, "tools-done")

        browser.click("#new")
        browser.click("#settings-open")
        browser.js("document.getElementById('settings-reset').click()")
        browser.click("#schema-on")
        browser.type("#schema", '{"type":"object"}')
        browser.click("#settings-open")
        say(browser, "[[json]]")
        check("a schema is sent", server.requests[-1]["response_format"]["json_schema"]["schema"] == {"type": "object"})
        check("JSON is laid out and checked", "It parses" in last_answer(browser) and
              '\n  "year": 1815' in browser.js("return document.querySelector('.code code').textContent"), last_answer(browser))
        say(browser, "[[badjson]]")
        check("a cut document is told", "does not parse" in last_answer(browser) and
              "max_tokens" in browser.text(".assistant:last-child .notice"), browser.text(".assistant:last-child"))
        browser.click("#settings-open")
        browser.click("#schema-on")
        browser.click("#settings-open")
        problems = browser.problems()
        check("no problems with JSON", not problems, problems)

        for word, want in (("[[fail]]", "failed to answer"), ("[[cut]]", "connection"), ("[[refuse]]", "not supported")):
            say(browser, word)
            error = browser.text(".assistant:last-child .error")
            check(f"{word} is told in words, with the request's id", want in error and "req-scripted" in error, error)
        browser.problems()  # the browser itself logs those
        legible(browser, "errors")
        say(browser, "[[bare]] [[odd]]")
        check("an answer without usage, in odd pieces", "lazy dog" in last_answer(browser) and
              not browser.js("return !!document.querySelector('.assistant:last-child .receipt')"))

        server.step_s = 0.02
        say(browser, "[[slow]]", ends=False)
        browser.wait("document.querySelector('.assistant:last-child .words').innerText.length > 40")
        check("a running answer is marked as busy", browser.js("return document.querySelector('.assistant:last-child').getAttribute('aria-busy')") == "true")
        browser.click("#send")
        check("the button stops", browser.wait("!document.querySelector('.send.stops')", 10))
        deadline = time.monotonic() + 10
        while server.hangups == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        check("and hangs up", server.hangups == 1, server.hangups)

        before = browser.js("return document.querySelectorAll('.conversations .title').length")
        browser.js("document.querySelector('.current .delete').click(); document.querySelector('.current .delete').click()")
        check("a conversation is deleted", browser.js("return document.querySelectorAll('.conversations .title').length") == before - 1)
        phone(browser)


def phone(browser):
    browser.viewport(320, 640, 2)
    browser.js("document.querySelector('.conversations .title').click()")
    time.sleep(0.4)
    wide = browser.js(OVERFLOW)
    check("phone: nothing is wider than the screen", not wide, wide)
    shot(browser, "phone")
    browser.click("#side-open")
    check("phone: the list opens and takes the focus", browser.js("return document.activeElement.id") == "side-close")
    time.sleep(0.4)
    sound(browser, "phone, list")
    shot(browser, "phone-list")
    browser.press("escape")
    browser.click("#settings-open")
    wide = browser.js(OVERFLOW)
    check("phone: settings fit", not wide, wide)
    shot(browser, "phone-settings")
    browser.click("#settings .icon")
    browser.click("#tab-live")
    browser.wait("document.querySelector('.map canvas').width > 0 && document.querySelector('.legend dd')")
    time.sleep(1.2)
    wide = browser.js(OVERFLOW)
    check("phone: the live view fits", not wide, wide)
    shot(browser, "phone-live")
    browser.viewport(1280, 860)


def main():
    if SHOTS:
        pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        with tempfile.TemporaryDirectory() as directory:
            parts = (scripted, real_server, with_a_key, streamed_experts(directory))
            for part in parts:
                try:
                    part(browser)
                except Exception:  # what breaks a part is its failure, not the others'
                    check(part.__name__, False, traceback.format_exc())
                    shot(browser, "broken")
    finally:
        browser.close()
    print(f"{results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
