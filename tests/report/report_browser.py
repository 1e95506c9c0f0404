"""The browser that the report's tests open pages in, where there is one."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
