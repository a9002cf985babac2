use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;

use crate::connections::{Connection, ConnectionLimits, Running};
use crate::traffic::{Incoming, Outgoing, Record, ServerObserver};

/// A request and its answer, on a connection of a server that
/// [`ConnectionLimits`](crate::ConnectionLimits) limits.
///
/// - The body of the request fails with [`TimedOut`](std::io::ErrorKind::TimedOut) if it stalls.
/// - The connection is not idle until the answer is given.
/// - The observer learns of the answer when its last byte was handed to the connection.
#[derive(Debug)]
pub struct Exchange {
    connection: Option<Arc<Connection>>,
    handled: Option<Running>,
    record: Record,
}

impl Exchange {
    /// Begins with the head of a request, and returns the request with its limited body.
    pub fn begin(
        request: Request,
        limits: &ConnectionLimits,
        observer: Option<Arc<dyn ServerObserver>>,
    ) -> (Self, Request) {
        let (parts, body) = request.into_parts();
        let connection = parts.extensions.get::<Arc<Connection>>().cloned();
        let body = Incoming::new(body, limits.stall_timeout, connection.clone());
        let exchange = Self {
            handled: connection.as_ref().map(Connection::request),
            record: Record::new(observer, parts.method.clone(), parts.uri.path()),
            connection,
        };
        (exchange, Request::from_parts(parts, Body::new(body)))
    }

    /// Records that the client has shown to be this user.
    pub fn admitted(&mut self, user: Arc<str>) {
        if let Some(connection) = &self.connection {
            connection.admitted();
        }
        self.record.user = Some(user);
    }

    /// Ends with an answer. The connection is closed if the client does not read it in time.
    pub fn answer(self, response: Response) -> Response {
        let running = self.connection.as_ref().map(Connection::answer);
        self.end(response, running)
    }

    /// Ends with an answer that has pauses and maybe no end, such as events. The connection is
    /// closed if the client does not read what was sent, and as soon as the server stops.
    pub fn stream(self, response: Response) -> Response {
        self.end(response, None)
    }

    fn end(mut self, response: Response, running: Option<Running>) -> Response {
        self.record.status = Some(response.status());
        drop(self.handled);
        let record = self.record;
        response.map(|body| {
            Body::new(Outgoing {
                body,
                record,
                running,
            })
        })
    }
}
