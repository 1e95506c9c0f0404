"""Rows in the shapes that people bring, converted to the one that their task reads: tags, numbers with names, chats."""
