"""What a memory reveals of the pictures that it was made from: attacks, and how sure their figures are."""
