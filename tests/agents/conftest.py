"""Tests with real clients against the scripted server."""
import os

os.environ.update(no_proxy="127.0.0.1", NO_PROXY="127.0.0.1")
