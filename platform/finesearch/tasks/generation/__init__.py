"""Tasks whose answer is generated text: translation, summarization, dialogue."""
