"""Who acts in rooms: by rule here, by learning in files to come. An agent is given what it hears, never a room."""
