"""A headless Chromium, driven over the WebDriver protocol with nothing but the standard library."""
import base64
import json
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference
KEYS = {"enter": "\ue007", "escape": "\ue00c", "shift": "\ue008", "tab": "\ue004",
        "left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "release": "\ue000"}
# Remembers what the policy of the page forbade and what its scripts threw, from the first line on.
WATCH = """
window.__problems = [];
addEventListener('securitypolicyviolation', (e) => __problems.push(`policy: ${e.violatedDirective} ${e.blockedURI}`));
addEventListener('error', (e) => __problems.push(`error: ${e.message}`));
addEventListener('unhandledrejection', (e) => __problems.push(`rejection: ${e.reason}`));
"""


class Browser:
    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        for line in self.driver.stdout:
            if match := re.search(r"started successfully on port (\d+)", line):
                self.base = f"http://127.0.0.1:{match.group(1)}/session"
                break
        else:
            raise RuntimeError("chromedriver did not start")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.profile = tempfile.TemporaryDirectory()
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-proxy-server", "--force-color-profile=srgb", f"--user-data-dir={self.profile.name}"]
        session = self.send("POST", "", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.base += "/" + session["sessionId"]
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.viewport(1280, 860)

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with self.opener.open(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"].split("\n")[0]) from None

    def cdp(self, command, **parameters):
        return self.send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self):
        try:
            self.send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.driver.stdout.close()
            self.profile.cleanup()

    def open(self, url):
        self.send("POST", "/url", {"url": url})

    def viewport(self, width, height, scale=1):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=scale, mobile=width < 500)

    def scheme(self, name, reduced_motion=False):
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else ""}])

    def js(self, script, *arguments):
        return self.send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css):
        return self.send("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.send("POST", f"/element/{self.find(css)}/click", {})

    def type(self, css, text):
        self.send("POST", f"/element/{self.find(css)}/value", {"text": text})

    def press(self, *names):
        """Keys, wherever the focus is; those held (shift) first."""
        down = [{"type": "keyDown", "value": KEYS.get(name, name)} for name in names]
        up = [{"type": "keyUp", "value": KEYS.get(name, name)} for name in reversed(names)]
        self.send("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": down + up}]})

    def text(self, css):
        """The text of all elements that match, as it is seen."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
                       ".join('\\n')", css)

    def wait(self, script, seconds=60):
        """Until the expression is true; its value, or None."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = self.js(f"return ({script})")
            if value:
                return value
            time.sleep(0.05)
        return None

    def screenshot(self, path):
        pathlib.Path(path).write_bytes(base64.b64decode(self.send("GET", "/screenshot")))

    def problems(self):
        """What the page's policy forbade, what scripts threw, and errors of the console since last."""
        seen = self.js("return window.__problems.splice(0)")
        log = self.send("POST", "/se/log", {"type": "browser"})
        return seen + [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]
