"""OpenAI's wires, `POST /responses` and `POST /chat/completions`: a response is a part of a run, from its beginning or an answer to its end or the next question."""
