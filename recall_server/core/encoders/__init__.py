"""Query encoders: features of pictures, their weights, and how novel a picture is."""
