"""What each path reads and answers, independent of the server: verbs, lines, other servers' protocols."""
