/*
 * Starts the app and gives the tests, as `window.tabby`, the few things they do with it.
 */
import { Connector } from './connector.js'

const query = new URLSearchParams(location.search)
const connector = window.__connector__ = new Connector(query.get('gateway'), query.get('token') ?? undefined)

function loadScript (url) {
    return new Promise((resolve, reject) => {
        document.head.append(Object.assign(document.createElement('script'), {
            src: url,
            onload: resolve,
            onerror: () => reject(new Error(`cannot load ${url}`)),
        }))
    })
}

async function boot () {
    const dist = connector.getDistURL()
    await loadScript(`${dist}/tabby-web-container/dist/preload.js`)
    await loadScript(`${dist}/tabby-web-container/dist/bundle.js`)
    // The core package reads this global while it starts.
    window.pluginModules = await window.Tabby.loadPlugins(connector.getPluginsToLoad().map(name => `${dist}/${name}`))
    const app = await window.Tabby.bootstrap({
        packageModules: window.pluginModules,
        bootstrapData: {
            config: JSON.parse(await connector.loadConfig()),
            executable: 'web',
            isFirstWindow: true,
            windowID: 1,
            installedPlugins: [],
            userPluginsPath: '/',
        },
        debugMode: false,
        connector,
    })
    return app.injector
}

class Tabby {
    #injector
    #tab = null

    constructor (injector) {
        this.#injector = injector
    }

    /** Open an SSH tab as if the person had picked such a profile. */
    openSSH (options) {
        const { NgZone } = window.require('@angular/core')
        const { ProfilesService } = window.require('tabby-core')
        return this.#injector.get(NgZone).run(async () => {
            this.#tab = await this.#injector.get(ProfilesService).openNewTabForProfile({
                type: 'ssh', name: 'test', options: { auth: 'password', ...options },
            })
        })
    }

    /** All that can be read on the page: the terminal, with what has scrolled off, and then the app's own notices. */
    text () {
        const lines = []
        const pane = this.#tab?.getAllTabs?.()[0] ?? this.#tab
        const buffer = pane?.frontend?.xterm.buffer.active
        for (let row = 0; row < (buffer?.length ?? 0); row++) {
            const line = buffer.getLine(row)
            const text = line.translateToString(true)
            if (line.isWrapped) {
                lines.push(lines.pop() + text)
            } else {
                lines.push(text)
            }
        }
        // A notice fades in, so it can be there before it can be read.
        const notices = [...document.querySelectorAll('.toast, .modal-body')]
            .filter(notice => getComputedStyle(notice).opacity > 0.9)
        return [...lines, ...notices.map(notice => notice.innerText)].join('\n')
    }

    /**
     * Connect past the app, through its connector, to a target that sends 8-byte big-endian counters from 0 and then
     * ends. Resolves when the connection is over with the bytes that came, the offset of the first one that was not
     * the expected one (or null), and the error that the gateway gave (or null).
     */
    readCounters (target) {
        return new Promise(resolve => {
            const socket = connector.createSocket()
            const result = { bytes: 0, firstGap: null, error: null }
            let expected = 0
            let rest = new Uint8Array(0)
            socket.data$.subscribe(chunk => {
                const bytes = new Uint8Array(rest.length + chunk.length)
                bytes.set(rest)
                bytes.set(chunk, rest.length)
                const view = new DataView(bytes.buffer)
                const whole = bytes.length - bytes.length % 8
                for (let offset = 0; offset < whole && result.firstGap === null; offset += 8, expected++) {
                    if (view.getUint32(offset) * 2 ** 32 + view.getUint32(offset + 4) !== expected) {
                        result.firstGap = expected * 8
                    }
                }
                rest = bytes.slice(whole)
                result.bytes += chunk.length
            })
            socket.error$.subscribe(error => {
                result.error = error.message
            })
            socket.close$.subscribe(() => resolve(result))
            socket.connect(target)
        })
    }
}

window.tabby = new Tabby(await boot())
