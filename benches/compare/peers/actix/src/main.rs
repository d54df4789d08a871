//! Raw actix-web: JSON, and an echo with actix-ws.

use std::env;

use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, Responder, get, rt, web};
use actix_ws::Message;
use futures_util::StreamExt;

#[derive(serde::Serialize)]
struct Hello {
    message: &'static str,
}

#[get("/")]
async fn hello() -> impl Responder {
    web::Json(Hello {
        message: "Hello, World!",
    })
}

#[get("/echo")]
async fn echo(request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Error> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, body)?;
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            let sent = match message {
                Message::Text(text) => session.text(text).await,
                Message::Binary(bytes) => session.binary(bytes).await,
                Message::Ping(bytes) => session.pong(&bytes).await,
                Message::Close(reason) => {
                    let _ = session.close(reason).await;
                    return;
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(response)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let port = number("PORT").unwrap_or(8080);
    HttpServer::new(|| App::new().service(hello).service(echo))
        .workers(number("WORKERS").unwrap_or(1).into())
        .bind(("127.0.0.1", port))?
        .run()
        .await
}
