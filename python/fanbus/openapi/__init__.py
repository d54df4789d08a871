"""OpenAPI 3.1: the document that describes the HTTP routes of an application.

`settings` has the options of the document, `description` the options of one route. `document` makes
the document of both and the signatures; `served` serves it, and a page that shows it.
"""
