"""A headless Chromium, spoken to through its own protocol: no driver, no further package."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request

from tornado.websocket import websocket_connect

FLAGS = (
  *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
  *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)


def chromium():
  """The browser's path, or None."""
  names = ("chromium", "chromium-browser", "google-chrome")
  return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Page:
  """One tab; `errors` collects what it writes to the console as errors or warnings, or throws."""

  def __init__(self, socket):
    self.socket, self.count, self.errors, self.requests = socket, 0, [], []

  async def call(self, method, **params):
    self.count += 1
    number = self.count
    await self.socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
    while True:
      message = json.loads(await asyncio.wait_for(self.socket.read_message(), 30))
      if message.get("id") == number:
        assert "error" not in message, message
        return message["result"]
      self._note(message)

  def _note(self, message):
    params, method = message.get("params", {}), message.get("method")
    if method == "Runtime.exceptionThrown":
      self.errors.append(params["exceptionDetails"])
    if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
      self.errors.append(params["args"])
    if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
      self.errors.append(params["entry"])
    if method == "Network.requestWillBeSent":
      self.requests.append(params["request"]["url"])

  async def open(self, path):
    for domain in ("Runtime", "Log", "Network", "Page"):
      await self.call(f"{domain}.enable")
    await self.call("Page.navigate", url=path.as_uri())
    deadline = time.monotonic() + 20
    while not await self.js("document.documentElement?.dataset.ready || 0"):
      assert time.monotonic() < deadline, f"the page is not ready: {self.errors}"
      await asyncio.sleep(0.05)

  async def js(self, expression):
    """The value of an expression."""
    found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
    assert "exceptionDetails" not in found, found
    return found["result"].get("value")

  async def screenshot(self, path):
    found = await self.call("Page.captureScreenshot", format="png")
    path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def _process(profile, size):
  flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size}")
  command = [chromium(), *flags, "--remote-debugging-port=0", "about:blank"]
  with open(os.devnull, "wb") as nowhere:
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
  try:
    yield process
  finally:
    process.terminate()
    process.wait(20)


def visit(profile, path, actions, size="1280,1800"):
  """Opens a file and runs `await actions(page)`; returns its result.

  Args:
    profile: an empty folder.
    path: of the page.
    actions: coroutine function of a `Page`.
    size: of the window.
  """

  async def run(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
      tab = next(t for t in json.loads(answer.read()) if t["type"] == "page")
    socket = await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=2**27)
    page = Page(socket)
    try:
      await page.open(path)
      return await actions(page)
    finally:
      socket.close()
      while await socket.read_message() is not None:
        pass
      await asyncio.sleep(0.05)  # for the connection itself to be closed

  with _process(profile, size):
    place, deadline = profile / "DevToolsActivePort", time.monotonic() + 30
    while not place.exists() or "\n" not in place.read_text():
      assert time.monotonic() < deadline, "Chromium did not start"
      time.sleep(0.05)
    return asyncio.run(run(place.read_text().splitlines()[0]))
