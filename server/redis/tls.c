/* TLS to Redis: whom to trust, and whom to expect. */
#include "redis/redis_internal.h"

#include <arpa/inet.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static enum rk_status refuse(SSL_CTX *tls, struct rk_redis_error *err, const char *what,
                             const char *file)
{
    char detail[120];
    ERR_error_string_n(ERR_peek_last_error(), detail, sizeof(detail));
    ERR_clear_error();
    if (err != NULL)
        (void)snprintf(err->text, sizeof(err->text), "%s: cannot use %.100s: %s", what,
                       file, detail);
    SSL_CTX_free(tls);
    return RK_EINVAL;
}

enum rk_status rk_redis_tls_new(SSL_CTX **out, const struct rk_redis_url *url,
                                struct rk_redis_error *err)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL) return RK_ENOMEM;
    (void)SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (url->is_insecure) {
        SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    } else {
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
        if (url->ca[0] == '\0') {
            if (SSL_CTX_set_default_verify_paths(tls) != 1)
                return refuse(tls, err, "ca", "the system's authorities");
        } else if (SSL_CTX_load_verify_locations(tls, url->ca, NULL) != 1) {
            return refuse(tls, err, "ca", url->ca);
        }
    }
    if (url->cert[0] != '\0') {
        if (SSL_CTX_use_certificate_chain_file(tls, url->cert) != 1)
            return refuse(tls, err, "cert", url->cert);
        if (SSL_CTX_use_PrivateKey_file(tls, url->key, SSL_FILETYPE_PEM) != 1 ||
            SSL_CTX_check_private_key(tls) != 1)
            return refuse(tls, err, "key", url->key);
    }
    *out = tls;
    return RK_OK;
}

static bool is_numeric(const char *host)
{
    unsigned char address[16];
    return inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1;
}

SSL *rk_redis_tls_start(SSL_CTX *tls, const struct rk_redis_url *url, const char *host)
{
    SSL *ssl = SSL_new(tls);
    if (ssl == NULL) return NULL;
    const char *name = url->server_name[0] != '\0' ? url->server_name : host;
    char sni[RK_REDIS_HOST_MAX + 1]; /* OpenSSL's macro takes no const */
    (void)snprintf(sni, sizeof(sni), "%s", name);
    bool is_address = is_numeric(name);
    int done = is_address || SSL_set_tlsext_host_name(ssl, sni) == 1;
    if (done && !url->is_insecure) {
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        done = is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name)
                          : SSL_set1_host(ssl, name);
    }
    if (done == 1) return ssl;
    SSL_free(ssl);
    return NULL;
}

void rk_redis_tls_reason(char *out, size_t size, struct bufferevent *bev, bool *is_denied)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    unsigned long code, last = 0;
    while ((code = bufferevent_get_openssl_error(bev)) != 0)
        last = code;
    long verdict = ssl == NULL ? X509_V_OK : SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK) {
        (void)snprintf(out, size, "TLS: the server's certificate is not accepted: %s",
                       X509_verify_cert_error_string(verdict));
        *is_denied = true;
    } else if (last != 0) {
        const char *text = ERR_reason_error_string(last);
        (void)snprintf(out, size, "TLS: %s", text != NULL ? text : "error");
    }
    ERR_clear_error();
}
