"""Pictures that are sent and pictures that are recalled."""
