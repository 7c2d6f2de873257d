"""A server of the page in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

PROGRAM = """
import signal, webbrowser
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
webbrowser.open = lambda url: print("opened", url, flush=True)
from funcnn.model_file import load_trained
from funcnn.trained import model_path
from funcnn.web import serve
serve(load_trained(model_path({model!r})), name={model!r}, port=0, **{more!r})
print("ended", flush=True)
"""


@contextmanager
def served(model, **more):
    """The process and the page's address; it is ended by Ctrl-C if it has not ended before."""
    command = [sys.executable, "-c", PROGRAM.format(model=model, more=more)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+/", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
