"""How fast and how right a bundle is: `edgekit bench` and `edgekit compare`."""
