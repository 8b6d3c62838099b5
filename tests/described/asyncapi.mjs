// Is it AsyncAPI? By npm's @asyncapi/parser, which reads the Avro schemas too.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.FOREIGN_MODULES}/`);
const { Parser } = require('@asyncapi/parser');
const { AvroSchemaParser } = require('@asyncapi/avro-schema-parser');

const WARNING = 1;
const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const { document, diagnostics } = await parser.parse(readFileSync(process.argv[2], 'utf8'));
const wrong = diagnostics.filter(({ severity }) => severity <= WARNING);
for (const { code, message, path } of wrong) console.error(`${code}: ${message} (${path.join('/')})`);
if (!document || wrong.length > 0) process.exit(1);
const messages = document.allMessages().all().length;
console.log(`@asyncapi/parser: ${document.allChannels().all().length} channels, ${messages} messages`);
