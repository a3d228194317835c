"""What a bundle says to people: the card, the report as data and as a page."""
