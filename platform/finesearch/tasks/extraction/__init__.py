"""Tasks that find spans in a text: named entities, question answering."""
