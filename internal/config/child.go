package config

// WithSchema returns the connection string with the schema as the search_path of its sessions.
func WithSchema(databaseURL, schema string) string { return withSchema(databaseURL, schema) }

// Environ returns the variables that give another relay the settings of c that which chooses,
// NAME=value each. They may hold secrets.
func (c Config) Environ(which func(Setting) bool) []string {
	var environ []string
	for _, s := range Settings() {
		if !which(s) {
			continue
		}
		if value := write(s.field(&c)); value != "" {
			environ = append(environ, s.Env()+"="+value)
		}
	}
	return environ
}
