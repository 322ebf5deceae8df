"""A real browser without a window (Debian's chromium, driven by Selenium over the WebDriver protocol), for the pages that people open."""
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


def browser():
    """A driver; the caller quits it. Skips where there is no browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # no-sandbox: the tests may run as root, where chromium's own sandbox refuses to start
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--no-proxy-server", "--window-size=1280,1600"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))
