"""The viewer answers its own machine alone, and its pages load nothing from elsewhere."""

import pytest
from browser import listening
from starlette.testclient import TestClient

from segsmith.viewer.app import make_viewer


@pytest.fixture(scope="module")
def client():
    with TestClient(make_viewer([])) as client:
        yield client


def test_the_first_page_says_what_it_may_load(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert "segsmith view" in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_another_site_whose_name_leads_here_is_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_another_sites_page_changes_nothing(client):
    assert client.post("/", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_browser_opens_it(open_page):
    with listening(make_viewer([])) as address:
        assert open_page(address).title() == "segsmith view"
