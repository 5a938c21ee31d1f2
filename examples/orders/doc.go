// Command orders is a small service that takes orders over HTTP. It writes each change of an order
// and the event that tells of it in one transaction, and does not know Kafka: the relay
// publishes the outbox.
//
//	POST /orders               {"customer": "ada", "cents": 1250}   places an order and answers {"order": 1}
//	POST /orders/{id}/cancel                                        cancels it; 409 if it is cancelled already
//
// Environment: ORDERS_DATABASE_URL, of a database with the tables of `relay migrate up`;
// ORDERS_LISTEN, 127.0.0.1:8080 by default.
package main
