"""One importer per published or own layout; each writes a store."""
