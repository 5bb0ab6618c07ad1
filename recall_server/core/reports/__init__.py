"""Reports for people: cards in Markdown, contact sheets, and views of a memory's bases and similarities."""
