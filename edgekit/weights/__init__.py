"""Other people's weights: fetched by name, and made a checkpoint of ours.

`download` and `fetch` bring a published file (the network is reached from `https` alone); `foreign`
reads it without running it, and `adopt` holds it to the network's names and writes a card.
"""
