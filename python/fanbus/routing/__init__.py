"""The declarations of an application: routes, middleware, hooks of sessions."""
