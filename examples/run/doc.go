// Command run shows the examples orders and billing at work, with a relay for each, kills some of
// them on the way, and compares what both databases say at the end:
//
//	go run ./examples/run                       on a throw-away Postgres and a broker simulated in this process
//	go run ./examples/run --database-url postgres://postgres:postgres@127.0.0.1:5432/postgres --brokers 127.0.0.1:9092
//	                                            on your servers, such as those of docker-compose.yml
package main
