// Package maven fetches the artifacts that a pom.xml names into the cache folder, once, and
// compares each with a digest that this project keeps. Apache Kafka and Kafka Connect come this way.
// Maven itself is fetched if none is installed.
package maven
