"""The server under test: --base-url of a running one, e.g. http://127.0.0.1:8080/v1."""
import pytest


def pytest_addoption(parser):
    parser.addoption("--base-url", required=True, help="http://HOST:PORT/v1 of a running server")


@pytest.fixture(scope="session")
def base_url(request):
    return request.config.getoption("--base-url").rstrip("/")
