// The driver of kafkajs: JSON lines on stdin, one answer each on stdout, requests side by side.
'use strict'

const readline = require('readline')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const { codecs } = require('./codecs')
const admin = require('./admin')
const { version } = require('kafkajs/package.json')

Object.assign(CompressionCodecs, codecs(CompressionTypes))

const CAPABILITIES = [
  'assign', 'commit', 'empties', 'empty-records', 'eof', 'group', 'idempotence', 'load', 'log-append-time', 'lz4', 'name-errors',
  'offsets-of-acks', 'reconnect', 'seek', 'snappy', 'timestamps', 'zstd',
]

const AGAIN = { initialRetryTime: 50, maxRetryTime: 300, retries: 60 }
const COMPRESSION = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

class DriverError extends Error {
  constructor(name, message) {
    super(message)
    this.name = name
  }
}

const now = () => Number(process.hrtime.bigint())
const bytes = (text) => (text === null ? null : Buffer.from(text, 'base64'))
const text = (data) => (data === null || data === undefined ? null : data.toString('base64'))

// Kafka's name of the error, or the client's.
function errorName(error) {
  for (let each = error; each; each = each.cause || each.originalError || firstOf(each)) {
    if (each.type && each.type !== 'UNKNOWN') return each.type
  }
  return error.name
}

// What an error of several things says of the first.
function firstOf({ errors, partitions, groups }) {
  if (errors && errors.length) return errors[0]
  const [one] = (partitions || groups || []).filter(({ error }) => error)
  return one && one.error
}

function read(settings, known) {
  const found = {}
  for (const [key, value] of Object.entries(settings)) {
    if (!(key in known)) throw new DriverError('UNSUPPORTED_SETTING', `${key}=${value} has no counterpart here`)
    if (known[key]) Object.assign(found, known[key](value))
  }
  return found
}

const PRODUCER = {
  'compression.type': (value) => ({ compression: COMPRESSION[value] }),
  acks: (value) => ({ acks: value === 'all' ? -1 : Number(value) }),
  'enable.idempotence': (value) => ({ idempotent: value === 'true' }),
  // kafkajs sends what one call gives it at once, as one batch for each partition.
  'linger.ms': null,
  'batch.size': null,
  'max.request.size': null,
  'max.block.ms': null,
}

const CONSUMER = {
  'fetch.max.wait.ms': (value) => ({ maxWaitTimeInMs: Number(value) }),
  'fetch.min.bytes': (value) => ({ minBytes: Number(value) }),
  'max.partition.fetch.bytes': (value) => ({ maxBytesPerPartition: Number(value) }),
  'heartbeat.interval.ms': (value) => ({ heartbeatInterval: Number(value) }),
  'session.timeout.ms': (value) => ({ sessionTimeout: Number(value) }),
  'isolation.level': (value) => ({ readUncommitted: value !== 'read_committed' }),
  'enable.auto.commit': (value) => ({ autoCommit: value === 'true' }),
  'auto.offset.reset': (value) => ({ fromBeginning: value === 'earliest' }),
  'allow.auto.create.topics': (value) => ({ allowAutoTopicCreation: value === 'true' }),
  'partition.assignment.strategy': (value) => {
    // kafkajs has one assignor: everybody in turn.
    if (value !== 'range') throw new DriverError('UNSUPPORTED_SETTING', value)
    return {}
  },
  'check.crcs': null,
}

function headerPairs(headers) {
  const pairs = []
  for (const [name, value] of Object.entries(headers || {})) {
    for (const each of Array.isArray(value) ? value : [value]) pairs.push([name, text(each)])
  }
  return pairs
}

// One call to kafkajs is one batch for each partition, however large.
const CALL_BYTES = 900000

function slices(messages) {
  const parts = [[]]
  let size = 0
  for (const message of messages) {
    const grown = size + (message.value ? message.value.length : 0)
    if (size && grown > CALL_BYTES) parts.push([])
    size = parts[parts.length - 1].length ? grown : message.value ? message.value.length : 0
    parts[parts.length - 1].push(message)
  }
  return parts
}

function received(topic, partition, message) {
  return {
    topic, partition, offset: Number(message.offset), timestamp_type: null, timestamp: Number(message.timestamp),
    key: text(message.key), value: text(message.value), headers: headerPairs(message.headers), arrived_ns: now(),
  }
}

// A consumer that stays, of a group or of partitions: kafkajs knows only groups, so for partitions it is a group of its own
// that seeks.
class Consumer {
  constructor(kafka, args) {
    const options = read(args.config || {}, CONSUMER)
    this.kept = { records: [], history: [], errors: [], received: 0, assignment: [] }
    this.options = { autoCommit: false, fromBeginning: true, ...options }
    this.position = {}
    this.group = args.group || `compat-${process.pid}-${Math.random().toString(36).slice(2)}`
    this.topics = args.topics || [...new Set(args.assign.map(([topic]) => topic))]
    this.assign = args.assign || null
    this.consumer = kafka.consumer({
      groupId: this.group, retry: AGAIN, rebalanceTimeout: 60000, allowAutoTopicCreation: false, maxBytesPerPartition: 10 << 20,
      ...options,
    })
  }

  async open() {
    const { consumer, kept } = this
    const joined = new Promise((resolve) => {
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        kept.assignment = Object.entries(payload.memberAssignment)
          .flatMap(([topic, partitions]) => partitions.map((partition) => [topic, partition])).sort()
        kept.history.push({ event: 'assigned', partitions: kept.assignment })
        resolve()
      })
    })
    consumer.on(consumer.events.REBALANCING, () => {
      if (kept.assignment.length) kept.history.push({ event: 'revoked', partitions: kept.assignment })
      kept.assignment = []
    })
    consumer.on(consumer.events.CRASH, ({ payload }) => kept.errors.push(errorName(payload.error)))
    await consumer.connect()
    await consumer.subscribe({ topics: this.topics, fromBeginning: this.options.fromBeginning })
    await consumer.run({
      autoCommit: this.options.autoCommit,
      eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
        for (const message of batch.messages) {
          kept.records.push(received(batch.topic, batch.partition, message))
          kept.received += 1
          this.position[`${batch.topic} ${batch.partition}`] = Number(message.offset) + 1
          resolveOffset(message.offset)
        }
        await heartbeat()
      },
    })
    for (const [topic, partition, offset] of this.assign || []) {
      consumer.seek({ topic, partition, offset: String(offset) })
    }
    if (this.assign) await joined
  }

  async commit({ mode, offsets }) {
    const listed = offsets || Object.entries(this.position).map(([key, offset]) => [...key.split(' '), offset])
    const committed = this.consumer.commitOffsets(
      listed.map(([topic, partition, offset]) => ({ topic, partition: Number(partition), offset: String(offset) })))
    if (mode === 'sync') await committed
    else committed.catch((error) => this.kept.errors.push(errorName(error)))
    return null
  }

  state() {
    const { assignment, history, errors, received } = this.kept
    return { assignment, history, errors, received }
  }

  take() {
    const records = this.kept.records
    this.kept.records = []
    return { records }
  }
}

class Load {
  constructor(kafka, args) {
    Object.assign(this, { args, sent: 0, acked: 0, failures: [], acks: [], stopping: false })
    this.sequences = new Array(args.partitions).fill(0)
    this.producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry: { ...AGAIN, retries: 1000 } })
    this.ended = this.run()
  }

  // Batches one after another, as kafkajs's idempotence asks for.
  async run() {
    await this.producer.connect()
    const padding = '.'.repeat(this.args.size)
    const perBatch = Math.max(1, Math.round(this.args.records_per_s / 20))
    while (!this.stopping) {
      const due = Date.now() + 50
      const records = []
      for (let number = 0; number < perBatch; number++) {
        const partition = this.sent % this.args.partitions
        const sequence = this.sequences[partition]++
        this.sent += 1
        records.push({ partition, sequence, value: `${this.args.id} ${sequence} ${padding}` })
      }
      try {
        const answers = await this.producer.send({ topic: this.args.topic, acks: -1, messages: records })
        const next = Object.fromEntries(answers.map((each) => [each.partition, Number(each.baseOffset)]))
        for (const { partition, sequence } of records) this.acks.push(`${partition} ${sequence} ${next[partition]++}\n`)
        this.acked += records.length
      } catch (error) {
        this.failures.push(`${errorName(error)}: ${error.message}`)
      }
      if (Date.now() < due) await new Promise((resolve) => setTimeout(resolve, due - Date.now()))
    }
  }

  state() {
    return { sent: this.sent, acked: this.acked, failures: this.failures.slice(0, 5), left: this.sent - this.acked }
  }

  async stop() {
    this.stopping = true
    await this.ended
    await this.producer.disconnect()
    require('fs').writeFileSync(this.args.ack_path, this.acks.join(''))
    return this.state()
  }
}

class Driver {
  hello({ bootstrap }) {
    this.kafka = new Kafka({
      clientId: 'compat-kafkajs', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: AGAIN, requestTimeout: 20000,
    })
    this.producers = new Map()
    this.consumers = new Map()
    this.loads = new Map()
    return { client: 'kafkajs', version: `kafkajs ${version}, Node ${process.versions.node}`, capabilities: [...CAPABILITIES, ...admin.CAPABILITIES] }
  }

  admin() {
    if (!this.connectedAdmin) {
      const client = this.kafka.admin({ retry: { ...AGAIN, retries: 20 } })
      this.connectedAdmin = client.connect().then(() => client)
    }
    return this.connectedAdmin
  }

  async producer(config) {
    const key = JSON.stringify(config)
    if (!this.producers.has(key)) {
      const { idempotent = false, ...sending } = read(config, PRODUCER)
      const producer = this.kafka.producer({
        idempotent, maxInFlightRequests: idempotent ? 1 : undefined, allowAutoTopicCreation: true,
        retry: { ...AGAIN, retries: idempotent ? 1000 : 20 },
      })
      this.producers.set(key, producer.connect().then(() => ({ producer, sending })))
    }
    return this.producers.get(key)
  }

  async produce({ topic, records, config }) {
    const { producer, sending } = await this.producer(config)
    const messages = records.map((record) => {
      const headers = {}
      for (const [name, value] of record.headers) {
        if (name in headers) headers[name] = [].concat(headers[name], bytes(value))
        else headers[name] = bytes(value)
      }
      const message = { key: bytes(record.key), value: bytes(record.value), partition: record.partition, headers }
      if (record.timestamp !== null) message.timestamp = String(record.timestamp)
      return message
    })
    const sentNs = now()
    let results
    try {
      const { partitions } = await this.knownPartitions(topic)
      for (const { partition } of messages) {
        if (partitions && !partitions.includes(partition)) {
          throw new DriverError('UNKNOWN_TOPIC_OR_PARTITION', `no partition ${partition}`)
        }
      }
      results = []
      for (const part of slices(messages)) {
        const answers = await producer.send({ topic, messages: part, ...sending })
        const next = Object.fromEntries(answers.map((each) => [each.partition, Number(each.baseOffset)]))
        results.push(...part.map(({ partition }) => ({ partition, offset: partition in next ? next[partition]++ : null })))
      }
    } catch (error) {
      results = messages.map(() => ({ error: errorName(error), message: error.message }))
    }
    return { results, sent_ns: sentNs, acked_ns: now() }
  }

  // kafkajs sends to a partition that is not there as to one without a leader, again and again.
  async knownPartitions(topic) {
    try {
      const admin = await this.admin()
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return { partitions: topics[0].partitions.map((each) => each.partitionId) }
    } catch (error) {
      if (errorName(error) === 'UNKNOWN_TOPIC_OR_PARTITION') return {}
      throw error
    }
  }

  async offsets({ topic, partition, at, timestamp }) {
    const admin = await this.admin()
    if (at === 'timestamp') {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)
      const { high } = (await admin.fetchTopicOffsets(topic)).find((each) => each.partition === partition)
      const offset = Number(found.find((each) => each.partition === partition).offset)
      // kafkajs gives the end where nothing is later.
      return offset === Number(high) ? -1 : offset
    }
    const found = (await admin.fetchTopicOffsets(topic)).find((each) => each.partition === partition)
    return Number(at === 'beginning' ? found.low : found.high)
  }

  async read({ topic, partitions, start, count, config, timeout_s: timeout }) {
    const admin = await this.admin()
    const ends = new Map((await admin.fetchTopicOffsets(topic)).map((each) => [each.partition, each]))
    const assign = []
    for (const partition of partitions) {
      const { low, high } = ends.get(partition)
      let offset = { beginning: Number(low), end: Number(high), offset: start.value }[start.at]
      if (start.at === 'timestamp') {
        const found = await admin.fetchTopicOffsetsByTimestamp(topic, start.value)
        offset = Number(found.find((each) => each.partition === partition).offset)
      }
      assign.push([topic, partition, offset])
    }
    const left = new Map(assign.filter(([, partition, offset]) => offset < Number(ends.get(partition).high))
      .map(([, partition]) => [partition, Number(ends.get(partition).high)]))
    const records = []
    if (count !== null || left.size) {
      const consumer = new Consumer(this.kafka, { config, assign })
      const until = Date.now() + timeout * 1000
      await consumer.open()
      try {
        while (count !== null ? records.length < count : left.size) {
          if (Date.now() > until) throw new DriverError('READ_TIMEOUT', `${records.length} records`)
          for (const each of consumer.take().records) {
            if (!partitions.includes(each.partition)) continue
            const [, , first] = assign.find(([, partition]) => partition === each.partition)
            if (each.offset < first) continue // read before the seek
            records.push(each)
            if (left.get(each.partition) <= each.offset + 1) left.delete(each.partition)
          }
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      } finally {
        await consumer.consumer.disconnect()
      }
    }
    return { records, ended: count === null ? [...partitions].sort((a, b) => a - b) : [] }
  }

  async consumer_open(args) {
    const consumer = new Consumer(this.kafka, args)
    await consumer.open()
    this.consumers.set(args.id, consumer)
    return null
  }

  consumer_state({ id }) { return this.consumers.get(id).state() }

  consumer_take({ id }) { return this.consumers.get(id).take() }

  async consumer_do(args) {
    const consumer = this.consumers.get(args.id)
    switch (args.action) {
      case 'commit': return consumer.commit(args)
      case 'seek':
        consumer.consumer.seek({ topic: args.topic, partition: args.partition, offset: String(args.offset) })
        return null
      case 'committed': {
        const admin = await this.admin()
        const found = await admin.fetchOffsets({ groupId: consumer.group, topics: [...new Set(args.partitions.map(([t]) => t))] })
        return args.partitions.map(([topic, partition]) => {
          const of = found.find((each) => each.topic === topic)
          const at = of && of.partitions.find((each) => each.partition === partition)
          return [topic, partition, at ? Number(at.offset) : -1]
        })
      }
      default: throw new DriverError('NO_SUCH_ACTION', args.action)
    }
  }

  async consumer_close({ id }) {
    const consumer = this.consumers.get(id)
    this.consumers.delete(id)
    await consumer.consumer.disconnect()
    return null
  }

  load_start(args) {
    this.loads.set(args.id, new Load(this.kafka, args))
    return null
  }

  load_state({ id }) { return this.loads.get(id).state() }

  load_stop({ id }) {
    const load = this.loads.get(id)
    this.loads.delete(id)
    return load.stop()
  }
}

const driver = new Driver()
const OPERATIONS = admin.operations(() => driver.admin())
for (const name of Object.getOwnPropertyNames(Driver.prototype)) {
  if (!['constructor', 'admin', 'producer', 'knownPartitions'].includes(name)) OPERATIONS[name] = (args) => driver[name](args)
}

async function answer(line) {
  const { id, op, args } = JSON.parse(line)
  let given
  try {
    if (!(op in OPERATIONS)) throw new DriverError('NO_SUCH_OPERATION', op)
    const result = await OPERATIONS[op](args)
    given = { id, result: result === undefined ? null : result }
  } catch (error) {
    if (!(error instanceof DriverError)) console.error(error)
    given = { id, error: { name: errorName(error), message: String(error.message) } }
  }
  process.stdout.write(`${JSON.stringify(given)}\n`)
}

readline.createInterface({ input: process.stdin }).on('line', answer).on('close', () => process.exit(0))
