"""Read PDF files by page, and write a report: docs/how-to/summarise-documents.md."""

from typing import Any

import pdfplumber

from aipartnerupflow.executors import File, current_context, python_function


@python_function
def pages(documents: list[File]) -> list[dict[str, Any]]:
    """Return the text of each page of each document."""
    found = []
    for document in documents:
        with pdfplumber.open(document.path) as pdf:
            for page in pdf.pages:
                found.append({"document": document.name, "page": page.page_number, "text": page.extract_text()})
    return found


@python_function
async def report(pages: list[dict[str, Any]], summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the summary of each page below the name of its document, and return the file."""
    lines = [
        f"- **{page['document']}, page {page['page']}**: {summary['content']}"
        for page, summary in zip(pages, summaries, strict=True)
    ]
    return await current_context().files.save("summaries.md", "\n".join(["# Summaries", "", *lines, ""]))
