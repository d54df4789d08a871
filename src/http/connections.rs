//! What becomes of a connection that was accepted: its protocol, and the application behind it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::{HttpService, Protocol, Request};
use actix_service::{Service, ServiceFactory, fn_service, map_config};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::{App, web};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;

use super::http2;
use super::linger;
use super::service::{self, Worker};
use super::tls::accept::{Acceptor, chose_http2};
use super::tls::files::Tls;
use super::transport::Transport;
use super::websocket::upgrade::upgrade;
use crate::actors::shutdown::Shutdown;

/// What a connection was accepted as.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    /// None on a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Held as long as the connection speaks HTTP, or tries to.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Serves connections without TLS: HTTP/1.
pub(super) struct Plain<S> {
    http1: Rc<S>,
}

impl Plain<()> {
    pub(super) async fn new(
        worker: &Rc<Worker>,
        address: SocketAddr,
    ) -> io::Result<Plain<impl Http1<TcpStream>>> {
        let http1 = http1(worker, address).await?;
        Ok(Plain { http1 })
    }
}

impl<S: Http1<TcpStream>> Plain<S> {
    pub(super) fn serve(&self, accepted: Accepted) -> impl Future<Output = ()> + use<S> {
        let http1 = Rc::clone(&self.http1);
        async move {
            let _permit = accepted.permit;
            drive(&*http1, accepted.stream, accepted.peer).await;
        }
    }
}

/// Serves connections with TLS: HTTP/1 or HTTP/2, as the client likes.
pub(super) struct Secure<S, A> {
    acceptor: Rc<Acceptor>,
    http1: Rc<S>,
    http2: Rc<A>,
    worker: Rc<Worker>,
}

impl Secure<(), ()> {
    pub(super) async fn new(
        worker: Rc<Worker>,
        tls: Tls,
        address: SocketAddr,
    ) -> io::Result<Secure<impl Http1<TlsStream<TcpStream>>, impl Application>> {
        let http2 = map_config(application(&worker), |()| AppConfig::default());
        let http2 = http2.new_service(()).await.map_err(|()| not_started())?;
        Ok(Secure {
            acceptor: Rc::new(Acceptor::new(tls, worker.config.handshake_timeout)),
            http1: http1(&worker, address).await?,
            http2: Rc::new(http2),
            worker,
        })
    }
}

impl<S: Http1<TlsStream<TcpStream>>, A: Application> Secure<S, A> {
    pub(super) fn serve(&self, accepted: Accepted) -> impl Future<Output = ()> + use<S, A> {
        let acceptor = Rc::clone(&self.acceptor);
        let (http1, http2) = (Rc::clone(&self.http1), Rc::clone(&self.http2));
        let config = Arc::clone(&self.worker.config);
        let shutdown = self.worker.shutdown.clone();
        async move {
            let _permit = accepted.permit;
            let peer = accepted.peer;
            // Boxed, so that a connection has room for one protocol only.
            let shaken = Box::pin(async {
                let late = shutdown_is_past(shutdown.clone());
                tokio::select! {
                    biased;
                    stream = acceptor.accept(accepted.stream) => stream,
                    () = late => None,
                }
            });
            let Some(stream) = shaken.await else {
                return;
            };
            if chose_http2(&stream) {
                Box::pin(http2::serve(stream, peer, &*http2, config, shutdown)).await;
            } else {
                drive(&*http1, stream, peer).await;
            }
        }
    }
}

/// A client that is in the handshake when the server shuts down has this long to end it, and would
/// otherwise have nothing to be told in.
const LATE: Duration = Duration::from_secs(1);

async fn shutdown_is_past(mut shutdown: Shutdown) {
    shutdown.wait().await;
    sleep(LATE).await;
}

/// Drives a connection to its end.
async fn drive<T: Transport>(http1: &impl Http1<T>, stream: T, peer: Option<SocketAddr>) {
    let socket = stream.socket().as_raw_fd();
    // A connection that breaks off is the client's affair.
    let _ = linger::on_connection(socket, http1.call((stream, Protocol::Http1, peer))).await;
}

/// Drives a connection that speaks HTTP/1.
pub(super) trait Http1<T>:
    Service<(T, Protocol, Option<SocketAddr>), Response = (), Future: 'static> + 'static
{
}

impl<T, S> Http1<T> for S where
    S: Service<(T, Protocol, Option<SocketAddr>), Response = (), Future: 'static> + 'static
{
}

/// Answers requests, whatever they came in.
pub(super) trait Application:
    Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error, Future: 'static>
    + 'static
{
}

impl<S> Application for S where
    S: Service<
            Request,
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            Future: 'static,
        > + 'static
{
}

fn application(
    worker: &Rc<Worker>,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = ServiceResponse<BoxBody>,
    Error = actix_web::Error,
    InitError = (),
    Service: Application,
    Future: 'static,
> + use<> {
    let worker = Rc::clone(worker);
    let app = App::new().default_service(web::to(move |request, body| {
        service::answer(Rc::clone(&worker), request, body)
    }));
    actix_service::IntoServiceFactory::into_factory(app)
}

async fn http1<T: Transport>(
    worker: &Rc<Worker>,
    address: SocketAddr,
) -> io::Result<Rc<impl Http1<T> + use<T>>> {
    let (upgrades, signal) = (Rc::clone(worker), worker.shutdown.clone());
    let connections = HttpService::build()
        .keep_alive(worker.config.keep_alive)
        .client_request_timeout(worker.config.head_timeout)
        .tcp_nodelay(true)
        // A client that has closed is gone: else a response that waits for something to happen would
        // not learn of it before it writes.
        .h1_allow_half_closed(false)
        .local_addr(address)
        .graceful_shutdown_signal(move || linger::over(signal.clone()))
        .upgrade(fn_service(move |(request, framed)| {
            upgrades.pulse.count_request();
            upgrade::<T>(&upgrades, &request, framed);
            std::future::ready(Ok::<_, actix_web::Error>(()))
        }))
        .finish(map_config(application(worker), |()| AppConfig::default()));
    let service = ServiceFactory::<(T, Protocol, Option<_>)>::new_service(&connections, ());
    Ok(Rc::new(service.await.map_err(|()| not_started())?))
}

fn not_started() -> io::Error {
    io::Error::other("the HTTP service did not start")
}
