"""The Textual console: a view of the management API, with no logic of its own."""
