"""From the camera's planes to the model's input: the image contract, defined and carried out."""
