"""Every call of rudder-sdk-python, as its documentation shows them."""

import sys

import rudderstack.analytics as analytics

analytics.write_key = sys.argv[1]
analytics.dataPlaneUrl = sys.argv[2]
errors = []
analytics.on_error = lambda error, items: errors.append(str(error))

analytics.identify("sdk-user", {"plan": "team", "email": "sdk@mail.example", "seats": 4})
analytics.track("sdk-user", "SDK Event", {"count": 7, "price": 1.5, "nested": {"deep": True}})
analytics.page("sdk-user", "docs", "SDK Page", {"path": "/docs"})
analytics.screen("sdk-user", "app", "SDK Screen", {"tab": "home"})
analytics.group("sdk-user", "sdk-group", {"employees": 12})
analytics.alias("sdk-before", "sdk-user")
analytics.flush()
analytics.shutdown()
sys.exit("; ".join(errors) or 0)
