# Started as it stands.
