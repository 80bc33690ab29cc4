"""Every call of rudder-sdk-python, as its documentation shows them."""

import sys

import rudderstack.analytics as analytics

analytics.write_key = sys.argv[1]
analytics.dataPlaneUrl = sys.argv[2]
errors = []
analytics.on_error = lambda error, items: errors.append(str(error))

analytics.identify("py-user", {"plan": "team", "email": "py@mail.example", "seats": 4})
analytics.track("py-user", "Python Event", {"count": 7, "price": 1.5, "nested": {"deep": True}})
analytics.page("py-user", "docs", "Python Page", {"path": "/docs"})
analytics.screen("py-user", "app", "Python Screen", {"tab": "home"})
analytics.group("py-user", "py-group", {"employees": 12})
analytics.alias("py-before", "py-user")
analytics.flush()
analytics.shutdown()
sys.exit("; ".join(errors) or 0)
