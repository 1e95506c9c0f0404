"""Without a browser the tests that need one do not exist, unless one is required: then they fail and say so."""

import os

from report_browser import BROWSER

IS_REQUIRED = os.environ.get("FINESEARCH_REQUIRE_BROWSER") == "1"
collect_ignore = [] if BROWSER or IS_REQUIRED else ["test_report_browser.py"]
