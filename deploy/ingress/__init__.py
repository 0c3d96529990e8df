"""An ingress whose canary weight follows a route's weight: a receiver of notifications that turns it."""
