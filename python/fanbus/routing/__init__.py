"""What an application declares: routes, middleware, hooks of sessions."""
