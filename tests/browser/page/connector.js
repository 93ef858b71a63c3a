/*
 * The browser's end of the gateway protocol: what the Tabby app calls for every TCP connection that it wants.
 *
 * The app's npm packages hold no connector; the one that people use is part of the Tabby Web site. This one behaves as
 * that one does where a gateway can notice, above all in how frames are read: a binary frame arrives as a Blob and its
 * bytes are had a little later, while a text frame and the close are acted upon at once. So a large frame can be
 * overtaken by a smaller one, and the end of the stream can overtake its last data. A gateway has to live with both.
 *
 *   const socket = new GatewaySocket('ws://127.0.0.1:9000', 'secret')
 *   socket.data$.subscribe(bytes => ...)
 *   socket.connect({ host: 'example.org', port: 22 })
 */

/** A stream of events in the style that the app expects: silent after complete(). */
class Events {
    #listeners = []

    subscribe (listener) {
        this.#listeners.push(listener)
    }

    next (value) {
        for (const listener of this.#listeners) {
            listener(value)
        }
    }

    complete () {
        this.#listeners = []
    }
}

export class GatewaySocket {
    connect$ = new Events()
    data$ = new Events()
    error$ = new Events()
    close$ = new Events()

    #url
    #token
    #target
    #webSocket = null
    #unsent = []

    constructor (url, token) {
        this.#url = url
        this.#token = token
    }

    connect (target) {
        this.#target = target
        this.#webSocket = new WebSocket(this.#url)
        this.#webSocket.onerror = () => this.close(new Error(`No connection gateway answers at ${this.#url}`))
        this.#webSocket.onclose = () => this.close()
        this.#webSocket.onmessage = async ({ data }) => {
            if (typeof data === 'string') {
                this.#gotMessage(JSON.parse(data))
            } else {
                this.data$.next(new Uint8Array(await data.arrayBuffer()))
            }
        }
    }

    #gotMessage (message) {
        switch (message._) {
        case 'hello':
            // A token that is undefined leaves the key out.
            this.#send({ _: 'hello', version: 1, auth_token: this.#token })
            break
        case 'ready':
            this.#send({ _: 'connect', host: this.#target.host, port: this.#target.port })
            break
        case 'connected':
            this.connect$.next()
            this.connect$.complete()
            this.#unsent.splice(0).forEach(chunk => this.#webSocket.send(chunk))
            break
        case 'error':
            this.close(new Error(message.details))
            break
        default:
            console.warn('Not a message of the gateway protocol:', message)
        }
    }

    #send (message) {
        this.#webSocket.send(JSON.stringify(message))
    }

    write (chunk) {
        // Held back only until the WebSocket is open, not until "connected": the app may talk before the target does.
        if (this.#webSocket?.readyState) {
            this.#webSocket.send(chunk)
        } else {
            this.#unsent.push(chunk)
        }
    }

    close (error) {
        this.#webSocket?.close()
        if (error) {
            this.error$.next(error)
        }
        for (const events of [this.connect$, this.data$, this.error$]) {
            events.complete()
        }
        this.close$.next()
        this.close$.complete()
    }
}

/** What the app asks of the page around it. */
export class Connector {
    #url
    #token
    #config = JSON.stringify({
        version: 3,
        enableAnalytics: false,
        enableAutomaticUpdates: false,
        enableWelcomeTab: false,
        recoverTabs: false,
        ssh: { verifyHostKeys: false, warnOnClose: false },
    })

    constructor (url, token) {
        this.#url = url
        this.#token = token
    }

    createSocket () {
        return new GatewaySocket(this.#url, this.#token)
    }

    async loadConfig () {
        return this.#config
    }

    async saveConfig (content) {
        this.#config = content
    }

    getAppVersion () {
        return '1.0.197'
    }

    getDistURL () {
        return '/modules'
    }

    getPluginsToLoad () {
        return [
            'tabby-core', 'tabby-settings', 'tabby-terminal', 'tabby-ssh', 'tabby-community-color-schemes', 'tabby-web',
            'tabby-telnet',
        ]
    }
}
