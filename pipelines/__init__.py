"""Recording -> transcript -> assessment -> alert; labels -> data set. Plain functions over models/ and comms/."""
