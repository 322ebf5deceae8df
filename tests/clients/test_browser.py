"""The pages /docs and /redoc in a real browser: drawn from the description, tried with a key, nothing refused by their own Content-Security-Policy (S3-32)."""
import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from lib.browser import browser

KEY = "browser-test-key-0123456789"


@pytest.fixture(scope="module")
def page():
    b = browser()
    yield b
    b.quit()


@pytest.fixture
def at(gate):
    return gate(env={"CHAPKIT_API_KEYS": KEY}, toml={"auth": {"guesses": "off"}}).url


def complaints(b):
    """What the page wrote to its console, refusals by its policy among it."""
    return [e["message"] for e in b.get_log("browser") if "favicon" not in e["message"]]


def wait(b, what):
    return WebDriverWait(b, 30).until(what)


def opened(b, at, operation):
    b.get(f"{at}/docs#{operation}")
    wait(b, lambda b: b.find_elements(By.ID, operation))
    box = b.find_element(By.ID, operation)
    assert box.get_attribute("open"), "the page opens what its address names"
    box.find_elements(By.XPATH, "./details/summary")[-1].click()
    return box


def sent(b, box):
    """Presses the button; what is shown of the answer: its status line, and its body."""
    box.find_element(By.CSS_SELECTOR, "form.try button").click()
    out = box.find_element(By.CSS_SELECTOR, "form.try + pre")
    wait(b, lambda _: out.text not in ("", "..."))
    status, _, body = out.text.partition("\n\n")
    return status.splitlines()[0], body


def operation(description, path, method):
    return description["paths"][path][method]["operationId"]


@pytest.fixture
def description(page, at):
    page.get(f"{at}/openapi.json")
    return json.loads(page.find_element(By.TAG_NAME, "body").text)


def test_docs_shows_every_route(page, at, description):
    page.get(f"{at}/docs")
    wait(page, lambda b: not b.find_elements(By.ID, "state"))
    assert page.title == description["info"]["title"]
    shown = {b.get_attribute("id") for b in page.find_elements(By.CSS_SELECTOR, "#routes section > details")}
    assert shown == {o["operationId"] for p in description["paths"].values() for o in p.values()}
    assert complaints(page) == []


def test_docs_tries_what_it_shows(page, at, description):
    make, read = operation(description, "/api/v1/configs", "post"), operation(description, "/api/v1/configs", "get")
    box = opened(page, at, read)
    status, body = sent(page, box)
    assert status.startswith("401"), "without a key"
    page.find_element(By.ID, "key").send_keys(KEY)
    assert sent(page, box) == ("200 OK", "[]")
    page.find_element(By.CSS_SELECTOR, f'a[href="#{make}"]').click()
    box = wait(page, lambda b: b.find_element(By.ID, make))
    wait(page, lambda _: box.get_attribute("open"))
    box.find_elements(By.XPATH, "./details/summary")[-1].click()
    field = box.find_element(By.CSS_SELECTOR, "form.try textarea")
    assert json.loads(field.get_attribute("value")), "the body's field holds an example"
    page.execute_script("arguments[0].value = arguments[1]", field, json.dumps({"name": "<b>of a browser</b>"}))
    status, body = sent(page, box)
    assert status.startswith("201")
    assert json.loads(body)["name"] == "<b>of a browser</b>"
    assert not box.find_elements(By.CSS_SELECTOR, "form.try + pre b"), "what came is text, never markup"
    # 401 is in the console as every failed request is; nothing else may be.
    assert [m for m in complaints(page) if "401" not in m] == []


def test_redoc_is_whole_without_scripts(page, at, description):
    page.get(f"{at}/redoc")
    assert not page.find_elements(By.TAG_NAME, "script")
    text = page.find_element(By.TAG_NAME, "body").text
    for path in description["paths"]:
        assert path in text, path
    assert page.execute_script("return getComputedStyle(document.querySelector('nav')).position") != "static", "its style sheet is in force"
    assert complaints(page) == []
