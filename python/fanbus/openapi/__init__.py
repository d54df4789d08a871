"""OpenAPI 3.1: what clients and people are told of an application's HTTP routes.

`settings` is what the application says of the whole, `description` what decorators say of a route;
`document` puts both together with the signatures, and `served` answers with it, and with a page.
"""
